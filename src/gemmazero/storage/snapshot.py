"""What is to be pushed: an immutable copy of a run's state, and of its best checkpoint, as the run goes on."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import MANIFEST, Checkpoint
from gemmazero.storage.lineage import State
from gemmazero.storage.locate import BEST_FILE, CHECKPOINTS, RUN_FILE
from gemmazero.storage.remote_state import BEST, LIGHT_MANIFEST, state_in


@dataclass(frozen=True)
class Snapshot:
    """A saved step, as it is to be on the Hub.

    Args:
        folder: where the files are, unless they are the originals; nobody else changes them.
        run: the run folder.
        config: the run.
        newest: the checkpoint.
        best: the best one, or the same.
        validation_loss: of the best one, where it was validated.
    """

    folder: Path
    run: Path
    config: RunConfig
    newest: Checkpoint
    best: Checkpoint
    validation_loss: float | None

    @classmethod
    def take(cls, folder: Path, run: Path, config: RunConfig, checkpoint: Path) -> Self:
        """Set the verified ``checkpoint`` and the best one aside in ``folder``, at once: by hard links.

        On a disk that has none they are the originals, until they are ``copied``. Raises CheckpointError where one of
        them is gone.
        """
        best, loss = _best(run)
        originals = {path: Checkpoint.open(path) for path in {checkpoint, best or checkpoint}}
        taken = cls(folder, run, config, originals[checkpoint], originals[best or checkpoint], loss)
        try:
            return taken._with_files(os.link)
        except OSError as error:
            taken.discard()
            if isinstance(error, FileNotFoundError):
                raise _not_set_aside(error) from error
            return taken

    def copied(self) -> Self:
        """The same with files that nobody else removes; takes as long as copying where they are no links.

        Raises CheckpointError where the originals are gone, or the disk refuses.
        """
        if self.newest.folder.parent == self.folder:
            return self
        self.discard()
        try:
            return self._with_files(shutil.copyfile)
        except OSError as error:
            raise _not_set_aside(error) from error

    def _with_files(self, place: Callable[[Path, Path], object]) -> Self:
        """The same, of the files that ``place`` made out of these in the folder. Raises OSError."""
        aside = {}
        for step, checkpoint in {one.step: one for one in (self.newest, self.best)}.items():
            aside[step] = dataclasses.replace(checkpoint, folder=self.folder / checkpoint.folder.name)
            for name, path in _files(checkpoint).items():
                (aside[step].folder / name).parent.mkdir(parents=True, exist_ok=True)
                place(path, aside[step].folder / name)
        return dataclasses.replace(self, newest=aside[self.newest.step], best=aside[self.best.step])

    def discard(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def step(self) -> int:
        """Of the state."""
        return self.newest.step

    @cached_property
    def state(self) -> State:
        """For comparing it with the one on the Hub."""
        return state_in(self.newest.folder, self.config)

    @cached_property
    def heavy(self) -> Mapping[str, Path | bytes]:
        """The heavy track by its paths on the Hub: the whole checkpoint, ``run.json``, and the best one beside it."""
        files: dict[str, Path | bytes] = dict(_files(self.newest))
        if self.best.step != self.newest.step:
            files |= {f"{BEST}/{name}": path for name, path in _files(self.best).items()}
        return files | {RUN_FILE: (json.dumps(self.config.portable.to_json(), indent=1) + "\n").encode()}

    @cached_property
    def light(self) -> Mapping[str, Path | bytes]:
        """The light track: the model's files of the best checkpoint, and a manifest of them."""
        files = {name: path for name, path in _files(self.best).items() if name in self.best.files["model"]}
        manifest = {
            "format_version": 1,
            "run_id": self.config.run_id,
            "step": self.best.step,
            "validation_loss": self.validation_loss,
            "files": self.best.files["model"],
        }
        return files | {LIGHT_MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}


def _files(checkpoint: Checkpoint) -> dict[str, Path]:
    names = [name for group in checkpoint.files.values() for name in group]
    return {name: checkpoint.folder / name for name in [*names, MANIFEST]}


def _best(run: Path) -> tuple[Path | None, float | None]:
    """The best checkpoint and its loss, where the run names one that is there."""
    try:
        record = read_json(run / BEST_FILE)
        folder = run / CHECKPOINTS / Path(record["checkpoint"]).name
        loss = float(record["validation_loss"])
    except (ConfigError, KeyError, TypeError, ValueError):
        return None, None
    return (folder, loss) if (folder / MANIFEST).is_file() else (None, None)


def _not_set_aside(error: OSError) -> CheckpointError:
    return CheckpointError(f"the state could not be set aside to be pushed: {error.strerror or error}")
