"""One optimizer step, and all the state it touches."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import utils

from gemmazero.config import TrainConfig
from gemmazero.data.batches import Batches
from gemmazero.errors import TrainingError
from gemmazero.model.gemma import Gemma
from gemmazero.training.events import Stepped
from gemmazero.training.loss import next_token_loss
from gemmazero.training.optimizer import Optimizer, learning_rate_at
from gemmazero.training.precision import Precision
from gemmazero.training.throughput import memory_bytes


@dataclass(frozen=True, kw_only=True)
class Best:
    """The lowest validation loss so far, and the step it was seen at."""

    step: int
    loss: float


class Trainer:
    """A model on its way: ``step`` optimizer steps done, ``batch`` batches read, ``tokens`` tokens seen.

    Args:
        model: in float32, on ``device``.
        batches: batch ``n`` is a pure function of the seed and ``n``.
        config: resolved; ``precision`` is not ``auto``.
        device: where the arithmetic happens.
    """

    def __init__(self, model: Gemma, batches: Batches, config: TrainConfig, device: torch.device) -> None:
        self.model = model
        self.batches = batches
        self.config = config
        self.device = device
        self.optimizer = Optimizer(model, config)
        self.precision = Precision(config.precision, device)
        self.step = 0
        self.batch = 0
        self.tokens = 0
        self.loss = math.nan
        self.validated_step = 0
        self.stepped: Stepped | None = None
        self.best: Best | None = None
        model.model.gradient_checkpointing = config.gradient_checkpointing
        model.train()

    def optimizer_step(self) -> Stepped:
        """Read the next batch and move the weights once.

        Where fp16 overflows, the loss scale is halved and the same batch is tried again; that is not a step.

        Raises:
            TrainingError: the gradient is not finite, and no smaller loss scale can help.
        """
        started = time.perf_counter()
        learning_rate = learning_rate_at(self.step + 1, self.config)
        self.optimizer.set_learning_rate(learning_rate)
        loss, gradient_norm = self._gradient()
        scaler = self.precision.scaler
        while not math.isfinite(gradient_norm):
            scale = scaler.get_scale()
            if scaler.is_enabled():
                scaler.update()
            if not 1.0 <= scaler.get_scale() < scale:
                raise TrainingError(
                    f"the gradient of step {self.step + 1} is not finite (loss {loss:g})",
                    "begin a new run with a lower --learning-rate; --init RUN begins with the weights of a checkpoint",
                )
            loss, gradient_norm = self._gradient()
        self.step += 1  # before the weights move: see is_whole
        for part in self.optimizer.parts:
            scaler.step(part)
        scaler.update()
        self.optimizer.zero_grad()
        step_tokens = self.config.batch_size * self.config.sequence_length
        self.batch, self.tokens, self.loss = self.batch + 1, self.tokens + step_tokens, loss
        seconds = time.perf_counter() - started
        self.stepped = Stepped(
            step=self.step,
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=gradient_norm,
            tokens=self.tokens,
            seconds=seconds,
            tokens_per_second=step_tokens / seconds,
            memory_bytes=memory_bytes(self.device),
        )
        return self.stepped

    @property
    def is_whole(self) -> bool:
        """False while a step is under way that has touched the weights: nothing must be saved then."""
        return self.stepped is None or self.stepped.step == self.step

    def _gradient(self) -> tuple[float, float]:
        """The batch's mean loss, and the norm of its gradient before clipping; the clipped gradient is in place."""
        self.optimizer.zero_grad()
        batch = self.batches[self.batch]
        size, count = self.config.micro_batch_size, batch.targets.numel()
        scale = self.precision.loss_scale
        nats = torch.zeros((), device=self.device)
        for start in range(0, len(batch.ids), size):
            ids, targets = batch.ids[start : start + size], batch.targets[start : start + size]
            with self.precision.autocast():
                loss, micro_nats = next_token_loss(
                    self.model.hidden(ids.to(self.device)),
                    self.model.output_weight,
                    targets.to(self.device),
                    softcap=self.model.config.final_logit_softcapping,
                    multiplier=scale / count,
                )
            loss.backward()  # type: ignore[no-untyped-call]
            nats += micro_nats
        for part in self.optimizer.parts:
            self.precision.scaler.unscale_(part)
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        norm = utils.get_total_norm(gradients)
        if self.config.clip_norm:
            utils.clip_grads_with_norm_(self.optimizer.parameters, self.config.clip_norm, norm)
        return float(nats) / count, float(norm)

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that must survive a crash: ``tensors`` by group, and a JSON ``record``."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "tensors": {"optimizer": self.optimizer.state_dict(), "random": random},
            "record": {
                "step": self.step,
                "batch": self.batch,
                "tokens": self.tokens,
                "loss": self.loss,
                "validated_step": self.validated_step,
                "best": None if self.best is None else {"step": self.best.step, "loss": self.best.loss},
                "scaler": self.precision.scaler.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave; the weights are already those of that step."""
        record, tensors = state["record"], state["tensors"]
        self.optimizer.load_state_dict(tensors["optimizer"])
        torch.set_rng_state(tensors["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in tensors["random"]:
            torch.cuda.set_rng_state(tensors["random"]["cuda"], self.device)
        self.step, self.batch, self.tokens = record["step"], record["batch"], record["tokens"]
        self.loss, self.validated_step = record["loss"], record["validated_step"]
        self.best = None if record["best"] is None else Best(**record["best"])
        self.precision.scaler.load_state_dict(record["scaler"])
