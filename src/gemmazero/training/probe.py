"""A few steps of a run on random tokens: how long they take, and how much memory."""

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.data.batch import Batch, Bookmark, Passage
from gemmazero.data.feed import Feed
from gemmazero.evaluation.perplexity import TOKENS_AT_ONCE, score
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import set_up
from gemmazero.training.throughput import flops_ceiling, forget_peak, memory_bytes, step_flops, wait_for
from gemmazero.training.trainer import Trainer

LEAST_STEPS, LEAST_SECONDS = 3, 3.0  # of which the first step is left out: it takes memory and compiles


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What was measured."""

    seconds_per_step: float
    seconds_per_validation_token: float
    memory_bytes: int
    mfu: float | None


def probe(model: ModelConfig, settings: TrainConfig) -> Probed:
    """Do a few steps with the run's own Trainer, of at most two micro-batches each, and score a few held-out windows.

    Raises RuntimeError or MemoryError where there is not enough memory.
    """
    device, micro_batch_size = torch.device(settings.device), settings.micro_batch_size
    assert micro_batch_size != "auto"
    set_up(settings.threads)
    forget_peak(device)
    gemma = Gemma(model)
    gemma.initialize(torch.Generator().manual_seed(settings.seed))
    few = replace(settings, batch_size=min(settings.batch_size, 2 * micro_batch_size))
    feed = Feed(RandomBatches(model.vocab_size, few), few.batch_tokens, pinned=device.type == "cuda")
    trainer = Trainer(gemma.to(device), feed, few, device)
    try:
        seconds_per_step = _seconds_per_step(trainer, settings.batch_size / few.batch_size)
        seconds_per_validation_token = _seconds_per_validation_token(trainer)
        trainer.attempt()  # once more, in what memory the validation has left
    finally:
        feed.close()
    memory = memory_bytes(device)  # before the ceiling takes some of its own
    ceiling = flops_ceiling(model, settings, device)
    return Probed(
        seconds_per_step=seconds_per_step,
        seconds_per_validation_token=seconds_per_validation_token,
        memory_bytes=memory,
        mfu=step_flops(model, settings) / seconds_per_step / ceiling if ceiling else None,
    )


class RandomBatches:
    """Batches of random tokens, as a run's own would come."""

    away = ""
    """They are always there."""

    def __init__(self, vocab_size: int, settings: TrainConfig) -> None:
        self._vocab_size, self._settings = vocab_size, settings

    def starting_at(self, number: int, bookmark: Bookmark | None = None) -> Iterator[Passage]:  # noqa: ARG002
        """Batches without end; each time others."""
        generator, settings = torch.Generator().manual_seed(number), self._settings
        while True:
            size = (settings.batch_size, settings.sequence_length + 1)
            tokens = torch.randint(self._vocab_size, size, generator=generator)
            ids, targets = tokens[:, :-1].clone(), tokens[:, 1:].clone()
            yield Passage(Batch.of(ids, targets, 0 if settings.mask_documents else None), list)

    def close(self) -> None:
        """Nothing is ever waited for."""


def _seconds_per_step(trainer: Trainer, times: float) -> float:
    """Of a step with ``times`` the trainer's batch: the gradient takes as much longer, moving the weights does not."""
    gradient: list[float] = []
    update: list[float] = []
    began = time.perf_counter()
    while len(gradient) < LEAST_STEPS or time.perf_counter() - began < LEAST_SECONDS:
        started = time.perf_counter()
        attempt = trainer.attempt()
        had_gradient = time.perf_counter()
        trainer.apply(attempt)
        wait_for(trainer.device)  # a run's next gradient waits for it, too; once, however long it takes itself
        gradient.append(had_gradient - started)
        update.append(time.perf_counter() - had_gradient)
    return times * statistics.median(gradient[1:]) + statistics.median(update[1:])


def _seconds_per_validation_token(trainer: Trainer) -> float:
    model, length = trainer.model.eval(), trainer.config.sequence_length
    size = (max(1, TOKENS_AT_ONCE // length), length + 1)  # as the whole split is scored at the end
    ids = torch.randint(model.config.vocab_size, size).to(trainer.device)
    seconds = math.inf
    for _ in range(2):
        started = time.perf_counter()
        with torch.inference_mode(), trainer.precision.autocast():
            score(model, ids, 0 if trainer.config.mask_documents else None)
        seconds = min(seconds, time.perf_counter() - started)
    model.train()
    return seconds / (size[0] * length)
