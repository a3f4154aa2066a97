"""Numbers gone wrong: batches that must not be learned from are told of, skipped, or left behind by going back."""

import json
import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gemmazero.errors import CompilationError, GemmaZeroError, TrainingError
from gemmazero.folder import write_file
from gemmazero.storage.checkpoints import Checkpoints
from gemmazero.storage.model_folder import load_model
from gemmazero.training.events import RolledBack, Skipped, Stepped, Uncompiled, Waiting
from gemmazero.training.record import Record
from gemmazero.training.stop import Stop
from gemmazero.training.trainer import Attempt, Trainer

INCIDENTS = "incidents"
SKIPS_IN_A_ROW = 3  # then the weights are suspected, not the data
MOST_ROLLBACKS = 3
MOST_SKIPS = 100
SPIKE_WINDOW, SPIKE_DEVIATIONS, SPIKE_NATS = 128, 8.0, 1.0

_HINT = "begin a new run with a lower --learning-rate; --init RUN begins with the weights of a checkpoint"


class Guard:
    """Steps a trainer, and judges each batch by its loss and gradient norm before the weights move.

    A batch is skipped where either is not finite, or where the loss is a *spike*: more than ``SPIKE_DEVIATIONS``
    standard deviations and ``SPIKE_NATS`` nats above the mean of the last ``SPIKE_WINDOW`` losses, when there are so
    many. After ``SKIPS_IN_A_ROW`` batches in a row the run goes back to its last anchor (see ``is_anchor``) and reads
    none of the data since then again. All of that is a function of the run's settings, and holds across resumes.
    """

    def __init__(self, trainer: Trainer, checkpoints: Checkpoints, record: Record, stop: Stop) -> None:
        self._trainer, self._checkpoints, self._record, self._stop = trainer, checkpoints, record, stop

    def optimizer_step(self) -> Stepped | Skipped | RolledBack | Waiting | Uncompiled:
        """Move the weights, or skip a batch, or go back; or say why there is no batch yet, or no compiled code.

        Raises:
            CompilationError: a run that was compiled cannot be so here.
            TrainingError: it has gone wrong too often, or there is no validated checkpoint to go back to.
        """
        trainer = self._trainer
        if trainer.skipped_in_a_row >= SKIPS_IN_A_ROW:
            return self._roll_back()
        if reason := trainer.feed.wait(trainer.batch, lambda: bool(self._stop.reason)):
            return Waiting(step=trainer.step, reason=reason)
        try:
            attempt = trainer.attempt()
        except CompilationError as error:
            if trainer.batch:  # a part of the run is rounded as compiled code rounds
                raise
            trainer.stop_compiling()
            return Uncompiled(step=trainer.step, reason=error.message)
        reason = wrong_with(attempt.loss, attempt.gradient_norm, self._record.recent_losses(SPIKE_WINDOW))
        if not reason:
            return trainer.apply(attempt)
        if trainer.skips >= MOST_SKIPS:
            raise TrainingError(f"step {trainer.step + 1} has {reason}, after {MOST_SKIPS} skipped batches", _HINT)
        batch, incident = trainer.batch, self._report(attempt, reason)
        trainer.skip(attempt)
        return Skipped(
            step=trainer.step,
            batch=batch,
            loss=attempt.loss,
            gradient_norm=attempt.gradient_norm,
            reason=reason,
            incident=incident,
        )

    def _roll_back(self) -> RolledBack:
        """Weights and state of the last anchor, and the data that no batch has held yet."""
        trainer = self._trainer
        from_step, batch, skips, rollbacks = trainer.step, trainer.batch, trainer.skips, trainer.rollbacks + 1
        step = self._good_step()
        if step is None or rollbacks > MOST_ROLLBACKS:
            why = (
                "there is no validated checkpoint to go back to"
                if step is None
                else f"it went back {MOST_ROLLBACKS} times"
            )
            raise TrainingError(
                f"{SKIPS_IN_A_ROW} batches in a row had no usable gradient at step {from_step + 1}, and {why}", _HINT
            )
        checkpoint = self._checkpoints.open(step)
        loaded, state = load_model(checkpoint.folder, device="cpu", dtype=torch.float32), checkpoint.training_state()
        trainer.is_whole = False  # until the weights, the state and the record agree again
        trainer.model.load_state_dict(loaded.state_dict())
        trainer.load_state_dict({"tensors": state.tensors, "record": state.record})
        trainer.batch, trainer.skips, trainer.rollbacks, trainer.skipped_in_a_row = batch, skips, rollbacks, 0
        self._record.roll_back(step)
        trainer.is_whole = True
        with suppress(GemmaZeroError):  # a run that is resumed from one of them comes back here by the same way
            self._checkpoints.remove_after(step)
        return RolledBack(step=step, from_step=from_step, skipped=tuple(range(self._record.next_batch, batch)))

    def _good_step(self) -> int | None:
        """The last anchor; where that is damaged, the newest good checkpoint of an earlier step."""
        checkpoints = Checkpoints(self._checkpoints.run, self._checkpoints.config)  # looks at each again
        anchor = last_anchor(self._trainer.step, self._trainer.config.validate_every)
        if not anchor or (checkpoints.is_good(anchor) and checkpoints.leads_on(anchor)):
            return anchor or None
        good = (one.step for one in checkpoints.inspections() if not one.reason and checkpoints.leads_on(one.step))
        return next((step for step in good if step < self._trainer.step), None)

    def _report(self, attempt: Attempt, reason: str) -> Path:
        """Write all that is known of a bad batch into the run's ``incidents/``; a full disk does not stop it."""
        trainer = self._trainer
        file = self._checkpoints.run / INCIDENTS / f"step-{trainer.step + 1:08d}-batch-{trainer.batch:08d}.json"
        known: dict[str, Any] = {
            "step": trainer.step + 1,
            "batch": trainer.batch,
            "documents": trainer.feed.documents(trainer.batch),
            "reason": reason,
            "loss": str(attempt.loss),
            "gradient_norm": str(attempt.gradient_norm),
            "not_finite": trainer.not_finite(),
            "recent_losses": self._record.recent_losses(SPIKE_WINDOW),
            "state": trainer.state_dict()["record"],
        }
        with suppress(OSError, GemmaZeroError):  # the event tells the most of it
            file.parent.mkdir(exist_ok=True)
            write_file(file, json.dumps(known, indent=1) + "\n")
        return file


def wrong_with(loss: float, gradient_norm: float, recent: Sequence[float]) -> str:
    """Why a batch must not be learned from, given the losses before it; empty where it may."""
    if not math.isfinite(loss):
        return f"a loss of {loss}"
    if not math.isfinite(gradient_norm):
        return f"a gradient norm of {gradient_norm}"
    if len(recent) < SPIKE_WINDOW:
        return ""
    mean, deviation = statistics.fmean(recent), statistics.pstdev(recent)
    limit = mean + max(SPIKE_NATS, SPIKE_DEVIATIONS * deviation)
    return f"a loss of {loss:.3f}, a spike above {limit:.3f}" if loss > limit else ""


def last_anchor(step: int, validate_every: int) -> int:
    """The last step, ``step`` at most, whose checkpoint is saved and kept for going back to; 0 where there is none.

    It depends on nothing that may change when a run goes on.
    """
    return step - step % validate_every
