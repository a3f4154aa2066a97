"""One optimizer step, and all the state it touches."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import utils

from gemmazero.config import TrainConfig
from gemmazero.data.feed import Feed
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import compiling
from gemmazero.training.compiling import fuses_loss, set_compiled
from gemmazero.training.events import Stepped
from gemmazero.training.loss import next_token_loss
from gemmazero.training.optimizer import Optimizer, learning_rate_at
from gemmazero.training.precision import Precision
from gemmazero.training.throughput import memory_bytes, step_flops


@dataclass(frozen=True, kw_only=True)
class Best:
    """The lowest validation loss so far, and the step it was seen at."""

    step: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A batch's mean loss, and the norm of its gradient before clipping; ``scaler`` is GradScaler's state before."""

    loss: float
    gradient_norm: float
    started: float  # time.perf_counter()
    scaler: dict[str, Any]


class Trainer:
    """A model on its way: ``step`` optimizer steps done, ``batch`` batches read, ``tokens`` tokens seen.

    Args:
        model: in float32, on ``device``.
        feed: batch ``n`` is a pure function of the seed and ``n``.
        config: resolved; nothing in it is ``auto``.
        device: where the arithmetic happens.
        curve_steps: where the learning rate's curve ends, if not with the run.
        flops_ceiling: what the device does in a second at most; 0 where nobody has measured it.
    """

    def __init__(
        self,
        model: Gemma,
        feed: Feed,
        config: TrainConfig,
        device: torch.device,
        *,
        curve_steps: int = 0,
        flops_ceiling: float = 0.0,
    ) -> None:
        self.model = model
        self.feed = feed
        self.config = config
        self.device = device
        self.optimizer = Optimizer(model, config)
        self.precision = Precision(config.precision, device)
        self.step = 0
        self.batch = 0
        self.tokens = 0
        self.loss = math.nan
        self.validated_step = 0
        self.skipped_in_a_row = 0
        self.skips = 0
        self.rollbacks = 0
        self.stepped: Stepped | None = None
        self.best: Best | None = None
        self.best_saved: Best | None = None
        """The best one whose checkpoint is on disk."""
        self.is_whole = True
        """False while the weights are ahead of the rest, or behind it: nothing must be saved then."""
        self._curve_steps = curve_steps or config.steps
        self._least_seconds = step_flops(model.config, config) / flops_ceiling if flops_ceiling else None
        model.model.gradient_checkpointing = config.gradient_checkpointing
        set_compiled(model.model, device, is_compiled=bool(config.compile))
        model.train()

    def attempt(self) -> Attempt:
        """Read the next batch and leave its clipped gradient in place; nothing has moved yet.

        Where fp16 overflows, the loss scale is halved and the same batch is tried again. Numbers that are not finite
        then, or without a scaler, are the caller's to judge. Raises CompilationError.
        """
        started, scaler = time.perf_counter(), self.precision.scaler.state_dict()
        with compiling() if self.config.compile else nullcontext():
            loss, gradient_norm = self._gradient()
            while not math.isfinite(gradient_norm) and self.precision.lower_scale():
                loss, gradient_norm = self._gradient()
        return Attempt(loss=loss, gradient_norm=gradient_norm, started=started, scaler=scaler)

    def apply(self, attempt: Attempt) -> Stepped:
        """Move the weights by the gradient that ``attempt`` left."""
        learning_rate = learning_rate_at(self.step + 1, self.config, self._curve_steps)
        self.optimizer.set_learning_rate(learning_rate)
        scaler, self.is_whole = self.precision.scaler, False
        for part in self.optimizer.parts:
            scaler.step(part)
        scaler.update()
        self.optimizer.zero_grad()
        step_tokens = self.config.batch_tokens
        self.step, self.batch, self.tokens = self.step + 1, self.batch + 1, self.tokens + step_tokens
        self.loss, self.skipped_in_a_row = attempt.loss, 0
        seconds = time.perf_counter() - attempt.started
        self.stepped = Stepped(
            step=self.step,
            batch=self.batch - 1,
            loss=attempt.loss,
            learning_rate=learning_rate,
            gradient_norm=attempt.gradient_norm,
            tokens=self.tokens,
            seconds=seconds,
            tokens_per_second=step_tokens / seconds,
            memory_bytes=memory_bytes(self.device),
            mfu=None if self._least_seconds is None else self._least_seconds / seconds,
        )
        self.is_whole = True
        return self.stepped

    def stop_compiling(self) -> None:
        """Take the blocks as they are from now on, which rounds otherwise."""
        self.config = replace(self.config, compile=False)
        set_compiled(self.model.model, self.device, is_compiled=False)

    def skip(self, attempt: Attempt) -> None:
        """Learn nothing from the batch of ``attempt``, nor let it lower the loss scale, and go on to the next."""
        self.precision.restart_scaler(attempt.scaler)
        self.optimizer.zero_grad()
        self.batch, self.skips, self.skipped_in_a_row = self.batch + 1, self.skips + 1, self.skipped_in_a_row + 1

    def not_finite(self) -> dict[str, list[str]]:
        """Which weights, and which of their gradients, hold something that is no number."""
        named = list(self.model.named_parameters())
        return {
            "weights": [name for name, weight in named if not bool(weight.isfinite().all())],
            "gradients": [
                name for name, weight in named if weight.grad is not None and not bool(weight.grad.isfinite().all())
            ],
        }

    def _gradient(self) -> tuple[float, float]:
        """The batch's mean loss, and the norm of its gradient before clipping; the clipped gradient is in place."""
        self.optimizer.zero_grad()
        batch = self.feed[self.batch]
        scale, count = self.precision.loss_scale, batch.targets.numel()
        nats = torch.zeros((), device=self.device)
        assert self.config.micro_batch_size != "auto"
        for some in batch.micro_batches(self.config.micro_batch_size, self.device):
            with self.precision.autocast():
                loss, micro_nats = next_token_loss(
                    self.model.hidden(some.ids, documents=some.documents),
                    self.model.output_weight,
                    some.targets,
                    softcap=self.model.config.final_logit_softcapping,
                    multiplier=scale / count,
                    is_fused=fuses_loss(self.config),
                )
            loss.backward()  # type: ignore[no-untyped-call]
            nats += micro_nats
        for part in self.optimizer.parts:
            self.precision.scaler.unscale_(part)
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        norm = utils.get_total_norm(gradients)
        if self.config.clip_norm:
            finite = norm.nan_to_num(nan=0.0, posinf=0.0)  # else one such number would become all of them
            utils.clip_grads_with_norm_(self.optimizer.parameters, self.config.clip_norm, finite)
        total, gradient_norm = torch.stack((nats, norm)).tolist()  # a GPU is waited for, as in fp16 for its scale
        return total / count, gradient_norm

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
                "bookmark": self.feed.bookmark(self.batch),
                "tokens": self.tokens,
                "loss": self.loss if self.step else None,
                "validated_step": self.validated_step,
                "skipped_in_a_row": self.skipped_in_a_row,
                "skips": self.skips,
                "rollbacks": self.rollbacks,
                "best": None if self.best is None else {"step": self.best.step, "loss": self.best.loss},
                "scaler": self.precision.scaler.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave; the weights are already those of that step.

        Raises KeyError, TypeError, ValueError or RuntimeError for anything else.
        """
        record, tensors = state["record"], state["tensors"]
        if record["step"] and not tensors["optimizer"]:
            raise ValueError(f"there is no optimizer state of step {record['step']}")
        self.optimizer.load_state_dict(tensors["optimizer"])
        torch.set_rng_state(tensors["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in tensors["random"]:
            torch.cuda.set_rng_state(tensors["random"]["cuda"], self.device)
        self.step, self.batch, self.tokens = record["step"], record["batch"], record["tokens"]
        self.feed.go_to(self.batch, record.get("bookmark"))
        self.loss = math.nan if record["loss"] is None else record["loss"]
        self.validated_step = record["validated_step"]
        self.skipped_in_a_row, self.skips = record["skipped_in_a_row"], record["skips"]
        self.rollbacks = record["rollbacks"]
        self.best = self.best_saved = None if record["best"] is None else Best(**record["best"])
        self.stepped = None
        self.precision.restart_scaler(record["scaler"])
