"""The checkpoints of one run: looked through, believed once verified, written, named best, let go of."""

import json
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gemmazero.config import ModelConfig
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.folder import discard, require_space, write_file
from gemmazero.json_file import read_json
from gemmazero.model.gemma import Gemma
from gemmazero.run_config import RunConfig, extensions_from
from gemmazero.storage.checkpoint import (
    Checkpoint,
    TrainingState,
    checkpoint_folder,
    list_checkpoints,
    save_checkpoint,
    step_of,
)
from gemmazero.storage.locate import BEST_FILE, CHECKPOINTS, RUN_FILE
from gemmazero.storage.model_folder import save_model
from gemmazero.storage.state_check import check_state


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What became of looking at a checkpoint: ``reason`` says why it is not to be believed; empty where it is good."""

    step: int
    folder: Path
    bytes: int
    reason: str


class Checkpoints:
    """Those under ``folder`` that belong to the run of ``config``; each is verified once by this process."""

    def __init__(self, run: Path, config: RunConfig) -> None:
        self.run = run
        self.folder = run / CHECKPOINTS
        self.config = config
        self._inspected: dict[Path, Inspection] = {}

    def inspections(self) -> Iterator[Inspection]:
        """Each checkpoint's, the newest first; looked at when asked for, and passed over if it is gone by then."""
        looked_at = ((self._inspect(folder), folder) for folder in reversed(list_checkpoints(self.folder)))
        return (inspection for inspection, folder in looked_at if folder.is_dir())

    def is_good(self, step: int) -> bool:
        """Whether there is a checkpoint of ``step``, undamaged, and of this run."""
        folder = checkpoint_folder(self.folder, step)
        return folder.is_dir() and not self._inspect(folder).reason

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``, which is good."""
        return Checkpoint.open(checkpoint_folder(self.folder, step))

    def leads_on(self, step: int) -> bool:
        """Whether the run, as it was extended, passes through the good checkpoint of ``step``."""
        return self.config.passes(step, extensions_from(self.open(step).record()))

    def newest_good(self, latest: int | None = None) -> tuple[Checkpoint | None, list[Inspection]]:
        """The newest good one that the run passes through, of step ``latest`` at most, and the bad ones before it.

        Raises:
            CheckpointError: there are checkpoints, and none will do.
        """
        passed_over, is_any_good = [], False
        for inspection in self.inspections():
            if inspection.reason:
                passed_over.append(inspection)
            elif (latest is None or inspection.step <= latest) and self.leads_on(inspection.step):
                return self.open(inspection.step), passed_over
            else:
                is_any_good = True
        if latest is not None and is_any_good:
            raise CheckpointError(
                f'"{self.run}" has no good checkpoint of step {latest} or before, the last before its decay',
                "begin a longer run with --init, or with --schedule constant",
            )
        if passed_over:
            hint = f"gemmazero resume --verify {shlex.quote(str(self.run))} tells of every checkpoint"
            raise CheckpointError(f'no checkpoint of "{self.run}" is good: {passed_over[0].reason}', hint)
        return None, []

    def save(self, step: int, model: Gemma, tokenizer: Tokenizer, state: TrainingState) -> Checkpoint:
        """Write and verify the checkpoint of ``step``.

        Raises:
            GemmaZeroError: there is no room for it, or the disk refuses; the older ones are untouched.
        """
        groups = (model.state_dict(), *state.tensors.values())
        require_space(self.folder, sum(tensor.nbytes for group in groups for tensor in group.values()))
        checkpoint = save_checkpoint(
            self.folder,
            step=step,
            run_id=self.config.run_id,
            write_model=partial(save_model, model, tokenizer),
            state=state,
        )
        self._inspected[checkpoint.folder] = _inspection(checkpoint)
        return checkpoint

    def name_best(self, step: int, loss: float) -> None:
        """Say in ``best.json`` that the good checkpoint of ``step`` is the best. Raises GemmaZeroError."""
        record = {"checkpoint": checkpoint_folder(self.folder, step).name, "step": step, "validation_loss": loss}
        write_file(self.run / BEST_FILE, json.dumps(record) + "\n")

    def confirm_best(self, step: int, loss: float) -> Inspection | None:
        """Name the best again; one that is damaged or gone is named no more, and returned."""
        folder = checkpoint_folder(self.folder, step)
        inspection = self._inspect(folder)
        if not inspection.reason:
            self.name_best(step, loss)
            return None
        (self.run / BEST_FILE).unlink(missing_ok=True)
        return inspection

    def retain(self, *, keep: int, always: Collection[int]) -> None:
        """Remove what is older than the newest ``keep`` good ones, but the steps in ``always`` and the named best.

        Raises:
            GemmaZeroError: something cannot be removed.
        """
        kept = {*always, self._named_best()}
        good = 0
        for folder in reversed(list_checkpoints(self.folder)):
            step = step_of(folder)
            if good == keep:
                if step not in kept:
                    discard(folder)
            elif step is not None and self.is_good(step) and self.leads_on(step):
                good += 1

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps. Raises GemmaZeroError where one cannot be removed."""
        for folder in reversed(list_checkpoints(self.folder)):
            if (step_of(folder) or 0) > step:
                discard(folder)

    def _named_best(self) -> int | None:
        try:
            return int(read_json(self.run / BEST_FILE)["step"])
        except (ConfigError, KeyError, TypeError, ValueError):
            return None

    def _inspect(self, folder: Path) -> Inspection:
        if folder not in self._inspected:
            self._inspected[folder] = self._look_at(folder)
        return self._inspected[folder]

    def _look_at(self, folder: Path) -> Inspection:
        try:
            checkpoint = Checkpoint.open(folder)
            checkpoint.verify()
            check_state(checkpoint)
            model = ModelConfig.read(folder / "config.json")
        except (CheckpointError, ConfigError) as error:
            return Inspection(step=step_of(folder) or 0, folder=folder, bytes=0, reason=error.message)
        if checkpoint.run_id != self.config.run_id:
            return _inspection(checkpoint, f'"{folder}" belongs to another run than "{self.run}"')
        if model != self.config.model:
            return _inspection(checkpoint, f'"{folder}" holds another model than "{self.run / RUN_FILE}" describes')
        if checkpoint.step > self.config.train.steps:
            return _inspection(checkpoint, f'"{folder}" is beyond the {self.config.train.steps} steps of the run')
        return _inspection(checkpoint)


def _inspection(checkpoint: Checkpoint, reason: str = "") -> Inspection:
    return Inspection(step=checkpoint.step, folder=checkpoint.folder, bytes=checkpoint.bytes, reason=reason)
