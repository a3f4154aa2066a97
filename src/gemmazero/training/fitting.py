"""The largest micro-batch that fits, and which smaller setting does where one did not."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.errors import MemoryShortageError, is_out_of_memory
from gemmazero.training.memory import memory_model
from gemmazero.training.throughput import free_memory

SHARE, SHARE_OF_GPU = 0.4, 0.85
"""Of the free memory, what is planned for. A CPU's heap was seen to grow to 2.2 times what its tensors take at once."""
MOST_TOKENS, MOST_TOKENS_ON_GPU = 4096, 32_768
"""In a micro-batch: chosen to bound memory; where more would be faster has not been measured."""


def choose_micro_batch_size(model: ModelConfig, settings: TrainConfig) -> int:
    """What ``auto`` stands for: the largest divisor of the batch within these limits that fits in memory."""
    if settings.micro_batch_size != "auto":
        return settings.micro_batch_size
    device = torch.device(settings.device)
    most = MOST_TOKENS if device.type == "cpu" else MOST_TOKENS_ON_GPU
    sizes = [size for size in divisors(settings.batch_size) if size <= max(1, most // settings.sequence_length)]
    return largest_fitting(sizes, model, settings, free_memory(device)) or 1


def largest_fitting(sizes: list[int], model: ModelConfig, settings: TrainConfig, free: int | None) -> int | None:
    """The first of the falling ``sizes`` of a micro-batch that fits in ``free`` bytes; None where none does."""
    if not sizes or free is None:
        return next(iter(sizes), None)
    takes = memory_model(model, settings, torch.device(settings.device))
    planned_for = free * (SHARE if settings.device == "cpu" else SHARE_OF_GPU)
    return next((size for size in sizes if takes.memory(settings, size).total <= planned_for), None)


def divisors(number: int) -> list[int]:
    """All of them, the largest first."""
    small = [size for size in range(1, int(number**0.5) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)}, reverse=True)


@contextmanager
def shortage_told(run: str, model: ModelConfig, settings: TrainConfig, free: int | None) -> Iterator[None]:
    """Within, memory that is refused becomes an error that names the smaller setting that fits.

    Args:
        run: the run folder.
        model: the run's.
        settings: the run's.
        free: what was free before the run took any.

    Raises:
        MemoryShortageError: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold activations
        try:
            hint = _smaller(run, model, settings, free)
        except (MemoryError, RuntimeError):
            hint = "take a smaller --preset or --sequence-length, or a larger machine"
        size = f"micro-batches of {settings.micro_batch_size} × {settings.sequence_length} tokens"
        raise MemoryShortageError(f"not enough memory for {size}", hint) from error


def _smaller(run: str, model: ModelConfig, settings: TrainConfig, free: int | None) -> str:
    """What to say to go on with less; what decides the result takes a new run."""
    now = settings.micro_batch_size
    sizes = [size for size in divisors(settings.batch_size) if now != "auto" and size < now]
    if size := largest_fitting(sizes, model, settings, free):
        return f"gemmazero resume {run} --micro-batch-size {size}"
    frugal = replace(settings, gradient_checkpointing=True)
    told = "begin a new run, of another --out, with --micro-batch-size 1 --gradient-checkpointing"
    if not settings.gradient_checkpointing and largest_fitting([1], model, frugal, free):
        return told
    if settings.optimizer != "adamw8bit" and largest_fitting([1], model, replace(frugal, optimizer="adamw8bit"), free):
        return f"{told} --optimizer adamw8bit"
    return "take a smaller --preset or --sequence-length, or a larger machine"
