"""A checkpoint: one step of a run as a folder, written whole or not at all, verified before it is believed."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.folder import sync_all, whole_folder
from gemmazero.json_file import read_json
from gemmazero.storage.tensor_file import stem_of, write_shards
from gemmazero.storage.tensor_header import check_header

FORMAT_VERSION = 1
MANIFEST = "checkpoint.json"
_NAME = re.compile(r"step-(\d{8,18})")


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
    files: Mapping[str, Mapping[str, Mapping[str, Any]]]  # group (model, training) → path → size and sha256

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The checkpoint in ``folder``, by its manifest alone. Raises CheckpointError where that is unusable."""
        path = folder / MANIFEST
        try:
            manifest = read_json(path)
        except ConfigError as error:
            raise CheckpointError(f'"{folder}" is not a complete checkpoint: {error.message}', _hint(folder)) from error
        version = manifest.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f'"{folder}" has format version "{version}", this GemmaZero reads {FORMAT_VERSION}',
                "pip install --upgrade gemmazero",
            )
        manifest.pop("sha256", None)
        with _reading(path):
            text = path.read_bytes()
        if _sealed(manifest).encode() != text:
            raise _damaged(folder, f'"{MANIFEST}" is not what was written')
        step, run_id, files = (manifest.get(key) for key in ("step", "run_id", "files"))
        if type(step) is not int or type(run_id) is not str or not _are_groups(files):
            raise _damaged(folder, f'"{MANIFEST}" does not describe a checkpoint')
        if _NAME.fullmatch(folder.name) and checkpoint_folder(folder.parent, step) != folder:
            raise _damaged(folder, f"it holds step {step}")
        return cls(folder=folder, step=step, run_id=run_id, files=files)

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(entry["size"] for group in self.files.values() for entry in group.values())

    def verify(self, *, training: bool = True) -> None:
        """Compare every file with the manifest; without ``training``, those of the model alone.

        Raises CheckpointError naming the first that is not as it was; a link is never followed.
        """
        expected = {name: entry for group in self.files.values() for name, entry in group.items()}
        there = _files_in(self.folder)
        if training and (extra := sorted(there - set(expected) - {MANIFEST})):
            raise _damaged(self.folder, f'"{extra[0]}" does not belong to it')
        for name, entry in expected.items() if training else self.files["model"].items():
            if name not in there:
                raise _damaged(self.folder, f'"{name}" is missing')
            with _reading(self.folder / name):
                size = (self.folder / name).stat().st_size
                is_as_it_was = size == entry["size"] and _entry(self.folder / name) == entry
            if not is_as_it_was:
                raise _damaged(self.folder, f'"{name}" is not what was written')

    def record(self) -> dict[str, Any]:
        """The JSON record of its training state. Verify first. Raises ConfigError where it cannot be read."""
        record: dict[str, Any] = read_json(self.folder / "training" / "state.json")
        return record

    def training_state(self) -> TrainingState:
        """What ``save_checkpoint`` was given. Verify first. Raises CheckpointError where it cannot be read."""
        training = self.folder / "training"
        files = [self.folder / name for name in self.files["training"] if name.endswith(".safetensors")]
        for file in files:
            check_header(file)
        try:
            tensors: dict[str, dict[str, Tensor]] = {}
            for file in files:
                tensors.setdefault(stem_of(file), {}).update(load_file(file))
            history = (training / "history.jsonl").read_text(encoding="utf-8")
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f'cannot read "{training}": {error}', _hint(training)) from error
        return TrainingState(tensors=tensors, record=self.record(), history=history)


def save_checkpoint(
    parent: Path, *, step: int, run_id: str, write_model: Callable[[Path], None], state: TrainingState
) -> Checkpoint:
    """Write step ``step`` under ``parent``, whole or not at all; it takes its name once the disk gave it back unharmed.

    Args:
        parent: the run's ``checkpoints`` folder.
        step: optimizer steps done.
        run_id: whose checkpoint it is.
        write_model: writes the model folder's files into the folder it is given.
        state: everything else.

    Raises:
        GemmaZeroError: the disk is full, or may not be written to, or gives back something else; the older
            checkpoints, one of the same step included, are untouched.
    """
    final = checkpoint_folder(parent, step)
    with whole_folder(final) as folder:
        write_model(folder)
        model_files = _entries(folder)
        training = folder / "training"
        training.mkdir()
        for group, tensors in state.tensors.items():
            write_shards(tensors, training, group)
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
        (folder / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")
        sync_all(folder)
        Checkpoint.open(folder).verify()
    return Checkpoint.open(final)


def checkpoint_folder(parent: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` is, or would be."""
    return parent / f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """The step that a folder's name says it is the checkpoint of; None for any other folder."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None


def list_checkpoints(parent: Path) -> list[Path]:
    """The step folders under ``parent``, oldest first. Raises CheckpointError where they cannot be listed."""
    with _reading(parent):
        found = [(step_of(path), path) for path in parent.iterdir()] if parent.is_dir() else []
    return [path for step, path in sorted((step, path) for step, path in found if step is not None)]


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, which ends with the SHA-256 sum of the rest: no bit of it changes unnoticed."""
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": digest}, indent=1) + "\n"


def _are_groups(files: object) -> bool:
    """Whether this is ``{"model": {path: {size, sha256}}, "training": …}``."""
    if not isinstance(files, dict) or set(files) != {"model", "training"}:
        return False
    groups = [group for group in files.values() if isinstance(group, dict)]
    entries = [entry for group in groups for entry in group.values()]
    return len(groups) == 2 and all(
        isinstance(entry, dict) and type(entry.get("size")) is int and type(entry.get("sha256")) is str
        for entry in entries
    )


def _files_in(folder: Path) -> set[str]:
    """The paths of all files below ``folder``. Raises CheckpointError for a link, a pipe, a device."""
    with _reading(folder):
        paths = list(_walk(folder))
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _damaged(folder, f'"{path.relative_to(folder)}" is no plain file')
    return {path.relative_to(folder).as_posix() for path in paths if not path.is_dir()}


def _walk(folder: Path) -> Iterator[Path]:
    """All that is below ``folder``; no link is followed. Raises OSError, which ``os.walk`` would keep to itself."""
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: _entry(folder / name) for name in sorted(_files_in(folder))}


def _entry(path: Path) -> dict[str, Any]:
    """Size and SHA-256 sum, of what the disk holds rather than the memory in front of it, where the system can tell."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return {"size": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Within, an OSError becomes a CheckpointError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f'cannot read "{path}": {error.strerror or error}', _hint(path)) from error


def _damaged(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(f'"{folder}" is damaged: {what}', _hint(folder))


def _hint(path: Path) -> str:
    """What tells of the checkpoints of the run that ``path`` lies in; outside of a run, where to take another."""
    runs = (place.parent for place in (path, *path.parents) if place.name == "checkpoints")
    run = next((run for run in runs if (run / "run.json").is_file()), None)
    if run is None:
        return "copy it again from where it came from"
    return f"gemmazero resume --verify {shlex.quote(str(run))} tells of every checkpoint"
