"""A run, resolved: what ``run.json`` holds."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gemmazero.config import ModelConfig, PrepareConfig, TrainConfig
from gemmazero.errors import ConfigError, UsageError

STREAM = "stream"  # in the run folder: the beginning of the source that is streamed
_LONGEST_NAME = 255  # bytes of a file's


@dataclass(frozen=True, kw_only=True)
class DataReference:
    """Where a run's data came from, so that it can be found, or prepared again, and recognised.

    ``stream`` is where a streaming run finds its source: an absolute path, a Hub id, or ``sample``; its data folder
    holds the source's first documents.
    """

    folder: str
    manifest_digest: str
    tokenizer_digest: str
    source: str
    revision: str | None
    options: Mapping[str, Any]
    stream: str | None = None

    @property
    def portable(self) -> Self:
        """The same, with names in place of this machine's paths."""
        options = {name: _name(value) if name == "tokenizer" else value for name, value in self.options.items()}
        folder, stream = Path(self.folder).name, _name(self.stream)
        return dataclasses.replace(self, folder=folder, stream=stream, options=options)


@dataclass(frozen=True, kw_only=True)
class Extension:
    """After ``step``, a run was told to end at ``steps`` in place of ``steps_before``."""

    step: int
    steps_before: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, resolved: nothing in it is automatic any more. It is what ``run.json`` holds.

    Raises:
        UsageError: a name in it holds bytes that no JSON can.
    """

    run_id: str
    preset: str
    model: ModelConfig
    train: TrainConfig
    data: DataReference
    init: str | None = None
    extensions: tuple[Extension, ...] = ()
    format_version: int = 1

    def __post_init__(self) -> None:
        try:
            json.dumps(dataclasses.asdict(self), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            before, after = error.object[: error.start], error.object[error.start :]
            name = before.rpartition('"')[2] + after.partition('"')[0]
            raise UsageError(f'run.json cannot hold "{name}": it is not UTF-8', "rename that file or folder") from None

    @property
    def curve_steps(self) -> int:
        """Where the learning rate's curve ends: a cosine that was extended ends where it first was to."""
        is_extended_cosine = self.train.schedule == "cosine" and self.extensions
        return self.extensions[0].steps_before if is_extended_cosine else self.train.steps

    @property
    def portable(self) -> Self:
        """The same run, with names in place of this machine's paths."""
        return dataclasses.replace(self, data=self.data.portable, init=_name(self.init))

    def passes(self, step: int, extensions: tuple[Extension, ...]) -> bool:
        """Whether a state of ``step``, reached when the run had been extended so far, lies on the way of this run."""
        known = len(extensions)
        if extensions != self.extensions[:known]:
            return False
        return known == len(self.extensions) or step <= self.extensions[known].step

    def to_json(self) -> dict[str, Any]:
        """The contents of ``run.json``."""
        return dataclasses.asdict(self) | {"model": self.model.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` wrote. Raises ConfigError for anything else."""
        if record.get("format_version") != 1:
            raise ConfigError(
                f'run.json has format version "{record.get("format_version")}", this GemmaZero reads 1',
                "pip install --upgrade gemmazero",
            )
        try:
            run = cls(
                run_id=record["run_id"],
                preset=record["preset"],
                model=ModelConfig.from_json(record["model"]),
                train=TrainConfig(**record["train"]),
                data=DataReference(**record["data"]),
                init=record["init"],
                extensions=extensions_from(record),
            )
            _check(run, set(record))
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            raise ConfigError(f"unreadable run.json: {error}", "copy it again from where it came from") from error
        return run


def extensions_from(record: Mapping[str, Any]) -> tuple[Extension, ...]:
    """The ``extensions`` of a run, or of one of its states, as JSON has them. Raises KeyError or TypeError."""
    extensions = tuple(Extension(**extension) for extension in record["extensions"])
    for extension in extensions:
        if not all(type(steps) is int and 0 <= steps < 2**31 for steps in dataclasses.astuple(extension)):
            raise TypeError(f"an extension of no whole numbers of steps: {extension}")
    return extensions


def _name(place: str | None) -> str | None:
    """What is left of a path on any machine; anything else as it is."""
    return Path(place).name if place is not None and Path(place).is_absolute() else place


def _check(run: RunConfig, keys: set[str]) -> None:
    """Raises TypeError or UsageError for what is not of its type, or what ``prepare`` would not take again."""
    data = run.data
    texts = {"run_id": run.run_id, "preset": run.preset, "init": "-" if run.init is None else run.init}
    texts |= {"folder": data.folder, "source": data.source, "revision": "-" if data.revision is None else data.revision}
    texts |= {"stream": "-" if data.stream is None else data.stream}
    texts |= {"manifest_digest": data.manifest_digest, "tokenizer_digest": data.tokenizer_digest}
    for name, text in texts.items():
        if not isinstance(text, str) or not text or "\0" in text:
            raise TypeError(f"{name} is no text")
        if any(len(part.encode()) > _LONGEST_NAME for part in text.split("/")):
            raise TypeError(f"{name} is longer than any name of a file")
    if unknown := keys - {field.name for field in dataclasses.fields(run)}:
        raise TypeError(f'"{min(unknown)}" is unknown')
    if run.train.micro_batch_size == "auto" or run.train.compile is None:
        raise TypeError("micro_batch_size or compile is not resolved")
    PrepareConfig(**data.options)
