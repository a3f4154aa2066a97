"""A checkpoint: one step of a run as a folder, written whole or not at all, verified before it is believed."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gemmazero.config import read_json
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.folder import discard, whole_folder
from gemmazero.storage.tensor_file import write_tensors

FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d{8,})")
_MANIFEST = "checkpoint.json"
_MOVE_AWAY = "move that folder away to go on from an older checkpoint"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Everything beside the model that a run needs to go on: tensors by group, a JSON record, the run's history."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    record: Mapping[str, Any]
    history: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete step folder: a transformers model folder, ``training/``, and a manifest of what they hold."""

    folder: Path
    step: int
    run_id: str
    files: Mapping[str, Mapping[str, Any]]  # path → size and sha256

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The checkpoint in ``folder``, by its manifest alone. Raises CheckpointError where that is unusable."""
        try:
            manifest = read_json(folder / _MANIFEST)
        except ConfigError as error:
            raise CheckpointError(f'"{folder}" is not a complete checkpoint: {error.message}', _MOVE_AWAY) from error
        version = manifest.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f'"{folder}" has format version "{version}", this GemmaZero reads {FORMAT_VERSION}',
                "pip install --upgrade gemmazero",
            )
        try:
            files = {**manifest["files"]["model"], **manifest["files"]["training"]}
            return cls(folder=folder, step=manifest["step"], run_id=manifest["run_id"], files=files)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f'"{folder / _MANIFEST}" is damaged: {error!r}', _MOVE_AWAY) from error

    def verify(self) -> None:
        """Compare every file with the manifest. Raises CheckpointError naming the first that is not as it was."""
        there = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        if missing := sorted(set(self.files) - there):
            raise self._damaged(f'"{missing[0]}" is missing')
        if extra := sorted(there - set(self.files) - {_MANIFEST}):
            raise self._damaged(f'"{extra[0]}" does not belong to it')
        for name, expected in self.files.items():
            if _entry(self.folder / name) != expected:
                raise self._damaged(f'"{name}" is not what was written')

    def training_state(self) -> TrainingState:
        """What ``save_checkpoint`` was given. Verify first. Raises CheckpointError where it cannot be read."""
        training = self.folder / "training"
        try:
            tensors = {path.stem: load_file(path) for path in sorted(training.glob("*.safetensors"))}
            history = (training / "history.jsonl").read_text(encoding="utf-8")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f'cannot read "{training}": {error}') from error
        return TrainingState(tensors=tensors, record=read_json(training / "state.json"), history=history)

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(f'"{self.folder}" is damaged: {what}', _MOVE_AWAY)


def save_checkpoint(
    parent: Path, *, step: int, run_id: str, write_model: Callable[[Path], None], state: TrainingState
) -> Checkpoint:
    """Write step ``step`` under ``parent``, whole or not at all, and verify what the disk holds.

    Args:
        parent: the run's ``checkpoints`` folder.
        step: optimizer steps done.
        run_id: whose checkpoint it is.
        write_model: writes the model folder's files into the folder it is given.
        state: everything else.

    Raises:
        GemmaZeroError: the disk is full or may not be written to; older checkpoints are untouched.
    """
    final = checkpoint_folder(parent, step)
    with whole_folder(final) as folder:
        write_model(folder)
        model_files = _entries(folder)
        training = folder / "training"
        training.mkdir()
        for group, tensors in state.tensors.items():
            write_tensors(tensors, training / f"{group}.safetensors")
        record = json.dumps(state.record, indent=1, allow_nan=False) + "\n"
        (training / "state.json").write_text(record, encoding="utf-8")
        (training / "history.jsonl").write_text(state.history, encoding="utf-8")
        training_files = {name: entry for name, entry in _entries(folder).items() if name not in model_files}
        manifest = {
            "format_version": FORMAT_VERSION,
            "run_id": run_id,
            "step": step,
            "torch_version": torch.__version__,
            "files": {"model": model_files, "training": training_files},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    checkpoint = Checkpoint.open(final)
    checkpoint.verify()
    return checkpoint


def checkpoint_folder(parent: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` is, or would be."""
    return parent / f"step-{step:08d}"


def list_checkpoints(parent: Path) -> list[Path]:
    """The step folders under ``parent``, oldest first."""
    if not parent.is_dir():
        return []
    found = [(int(match[1]), path) for path in parent.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def retain(parent: Path, *, keep: int, best_step: int | None) -> None:
    """Remove all but the newest ``keep`` checkpoints and the best."""
    best = None if best_step is None else checkpoint_folder(parent, best_step)
    for path in list_checkpoints(parent)[:-keep]:
        if path != best:
            discard(path)


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _entry(path) for path in files}


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
