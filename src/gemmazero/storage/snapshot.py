"""What is to be pushed: an immutable copy of a run's state, and of its best checkpoint, as the run goes on."""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
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
        folder: where the copies are; nobody else changes them.
        run: the run folder.
        config: the run.
        newest: the copy of the checkpoint.
        best: the copy of the best one, or the same.
        validation_loss: of the best one, where it was validated.
    """

    folder: Path
    run: Path
    config: RunConfig
    newest: Checkpoint
    best: Checkpoint
    validation_loss: float | None

    @classmethod
    def take(cls, folder: Path, run: Path, checkpoint: Path, best: "Best") -> Self:
        """Set the verified ``checkpoint`` and the best one aside in ``folder``, by hard links where the disk has them.

        Raises CheckpointError where one of them is gone, or the disk refuses; ConfigError where ``run.json`` is.
        """
        config = RunConfig.from_json(read_json(run / RUN_FILE))
        aside = {path: _set_aside(path, folder) for path in dict.fromkeys((checkpoint, best.folder or checkpoint))}
        return cls(folder, run, config, aside[checkpoint], aside[best.folder or checkpoint], best.loss)

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

    @property
    def sums(self) -> Mapping[Path, str]:
        """What SHA-256 sum each copy must have, by the manifests. Raises CheckpointError for a damaged one."""
        return {
            one.folder / name: entry["sha256"]
            for one in (self.newest, self.best)
            for group in Checkpoint.open(one.folder).files.values()
            for name, entry in group.items()
        }

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


@dataclass(frozen=True)
class Best:
    """The best checkpoint of a run and its validation loss, where the run names one that is there."""

    folder: Path | None = None
    loss: float | None = None

    @classmethod
    def of(cls, run: Path) -> Self:
        """That of now."""
        try:
            record = read_json(run / BEST_FILE)
            folder = run / CHECKPOINTS / Path(record["checkpoint"]).name
            loss = float(record["validation_loss"])
        except (ConfigError, KeyError, TypeError, ValueError):
            return cls()
        return cls(folder, loss) if (folder / MANIFEST).is_file() else cls()


def _set_aside(checkpoint: Path, into: Path) -> Checkpoint:
    original = Checkpoint.open(checkpoint)
    copy = dataclasses.replace(original, folder=into / checkpoint.name)
    try:
        for name, path in _files(original).items():
            (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
            _link(path, copy.folder / name)
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"the state could not be set aside to be pushed: {reason}") from error
    return copy


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except FileNotFoundError:
        raise
    except OSError:  # of a disk that has no hard links
        shutil.copyfile(path, place)
