"""What a user asked for → what a run does: presets, defaults and ``auto`` values resolved, once."""

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gemmazero.config import DEFAULT_SOURCE, RUNS, DeviceName, ModelConfig, PrepareConfig, TrainConfig
from gemmazero.data.hub_tokenizer import absolute_path
from gemmazero.data.prepare import default_folder
from gemmazero.data.shards import Manifest
from gemmazero.data.stream_source import StreamSource
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, DataError, UsageError
from gemmazero.json_file import read_json
from gemmazero.presets import DEFAULT_PRESET, Preset, find_preset
from gemmazero.run_config import DataReference, Extension, RunConfig
from gemmazero.runtime import available_cores, choose_device, require_memory
from gemmazero.training.fitting import choose_micro_batch_size
from gemmazero.training.precision import choose_precision

_AUTOMATIC = (("threads", 0), ("compile", None))  # beside every "auto"
_ANY = {"steps": 2**31 - 1, "warmup_steps": 0, "learning_rate": 1e38, "min_learning_rate": 0.0}  # each fits any other


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run as it was asked for; None is what was left out.

    Args:
        out: the run folder.
        preset: a preset's name or a model's config file.
        data: a data folder, or a SOURCE to prepare.
        init: a model folder whose weights the run starts from.
        options: the fields of PrepareConfig that say how a source is streamed.
        settings: the fields of TrainConfig that were given.
        resumes: whether what was left out is as the run in ``out`` has it.
        by_hub_name: whether the run is the one that the repository in ``settings`` holds, wherever it is on this disk.

    Raises:
        UsageError: a name is unknown, or a value out of range.
    """

    out: Path | None = None
    preset: str | None = None
    data: str | None = None
    init: Path | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resumes: bool = False
    by_hub_name: bool = False

    def __post_init__(self) -> None:
        if self.resumes:  # what goes together is for the run's own settings to say, not for a preset's
            for name, value in self.settings.items():
                TrainConfig(**_with_defaults(_ANY, {name: value}))
        else:
            TrainConfig(**_with_defaults(self.base.train, self.settings))  # a wrong value is an error before any work
        PrepareConfig(**self.options)

    @property
    def folder(self) -> Path:
        """The run folder: ``out``, else ``runs/<preset>-<data's name>``."""
        return self.out or RUNS / f"{self.base.name}-{default_folder(self.source).name}"

    def extends(self, config: RunConfig) -> bool:
        """Whether the run is to end later than ``config`` says."""
        return self.resumes and self.settings.get("steps", 0) > config.train.steps

    @property
    def source(self) -> str:
        """Where the data is, or is prepared from."""
        return DEFAULT_SOURCE if self.data is None else self.data

    @property
    def base(self) -> Preset:
        """The model and the defaults that the run starts from."""
        if self.init is None:
            return find_preset(DEFAULT_PRESET if self.preset is None else self.preset)
        if self.preset is not None:
            raise UsageError("--init brings its own model: it excludes --preset", "leave --preset out")
        model = ModelConfig.read(self.init / "config.json")
        folder = self.init.resolve() if ".." in self.init.parts else self.init.absolute()  # a link keeps its own name
        name = folder.parents[1].name if folder.parent.name == "checkpoints" else folder.name
        if folder.parent.name == "snapshots":  # of the Hub's cache: models--user--name/snapshots/…
            name = folder.parents[1].name.split("--")[-1]
        defaults = {"sequence_length": min(512, model.max_position_embeddings)}
        return Preset(name=name or "model", model=model, train=defaults)

    def refuse_another_model(self, config: RunConfig) -> None:
        """Raises UsageError where a preset or a first model was given that is not the run's."""
        if self.preset is None and self.init is None:
            return
        wanted = self.base.model
        if self.init is None:
            wanted = wanted.with_vocabulary(config.model.vocab_size, cast(int, config.model.eos_token_id))
        if wanted != config.model or config.init not in _names(self.init):
            raise UsageError(
                f'the run "{self.folder}" began with another model than "{self.preset or self.init}"',
                "--out names another folder",
            )


def resolve(request: Request, data: Path, stream: StreamSource | None = None) -> RunConfig:
    """The whole configuration of a new run on the data folder ``data``; nothing in it is automatic any more.

    A run that streams a source has the source's beginning for its data folder.

    Raises:
        UsageError: a sequence is longer than the model's context, or the machine too small for the weights.
        CheckpointError: the data has another vocabulary than the model to start from.
    """
    manifest, base = Manifest.read(data), request.base
    if request.init is None:
        model = base.model.with_vocabulary(manifest.vocab_size, manifest.end_id)
    else:
        model = base.model
        _require_same_tokenizer(request.init, manifest)
    return RunConfig(
        run_id=secrets.token_hex(8),
        preset=base.name,
        model=model,
        train=resolved(request, model),
        data=_reference(data, manifest, stream),
        init=_absolute(request.init),
    )


def resolved(request: Request, model: ModelConfig) -> TrainConfig:
    """The settings of a new run of ``model`` on this machine; nothing in them is automatic any more.

    Raises:
        UsageError: a sequence is longer than the model's context, or the machine too small for the weights.
    """
    train = TrainConfig(**_with_defaults(request.base.train, request.settings))
    context = model.max_position_embeddings
    if train.sequence_length > context:
        raise UsageError(
            f"sequence_length {train.sequence_length} is longer than the model's context of {context}",
            f"--sequence-length {context}",
        )
    require_memory(4 * model.parameters, f"a model of {model.parameters:,} parameters")
    device = choose_device(train.device)
    train = dataclasses.replace(
        train,
        device=cast(DeviceName, device.type),
        threads=train.threads or available_cores(),
        precision=choose_precision(train.precision, device),
        compile=device.type == "cuda" if train.compile is None else train.compile,
    )
    size = min(choose_micro_batch_size(model, train), train.batch_size)
    return dataclasses.replace(train, micro_batch_size=size)


def recorded(request: Request, file: Path) -> tuple[RunConfig, tuple[str, ...]]:
    """The run in ``file`` with the settings given anew, and what of them ``changed`` tells of; no data is looked at.

    Raises:
        ConfigError: the file cannot be used.
        UsageError: what was asked for is not this run.
    """
    config = RunConfig.from_json(read_json(file))
    request.refuse_another_model(config)
    refuse_other_options(config, request.options)
    train, told = changed(config.train, request.settings, resumes=request.resumes)
    return dataclasses.replace(config, train=train), told


def refuse_other_options(config: RunConfig, given: Mapping[str, Any]) -> None:
    """Raises UsageError where the run's source is not streamed as ``given`` says."""
    for name, value in given.items():
        before = config.data.options.get(name)
        given_again = {value}
        if name == "tokenizer":  # which was recorded as an absolute path, or with the commit that it had on the Hub
            given_again |= {*_names(absolute_path(value)), f"{value}@{str(before).partition('@')[2]}"}
        if config.data.stream is None or before not in given_again:
            raise UsageError(
                f"{name} was {before} when the run began and cannot become {value}",
                "leave it out to go on, or name another --out for a new run",
            )


def changed(recorded: TrainConfig, given: Mapping[str, Any], *, resumes: bool) -> tuple[TrainConfig, tuple[str, ...]]:
    """A run's settings with those given anew, and what changed that keeps the mathematics: "threads: 2 → 4".

    What is automatic (``auto``, no threads) was resolved when the run began, and stays what it was. A time limit, and
    the leave to overwrite another run, are one session's alone. More ``steps`` are left to ``extended``.

    Raises:
        UsageError: a setting that decides the result differs from the run's.
    """
    recorded = dataclasses.replace(recorded, max_time=None, hub_overwrite=False)
    resolved = {name: value for name, value in given.items() if value != "auto" and (name, value) not in _AUTOMATIC}
    if "micro_batch_size" in resolved:
        resolved["micro_batch_size"] = min(resolved["micro_batch_size"], recorded.batch_size)
    differing = {name: value for name, value in resolved.items() if value != getattr(recorded, name)}
    if "steps" in differing:
        _check_more_steps(recorded.steps, differing["steps"], resumes=resumes)
        del differing["steps"]
    kinds = {field.name: field.metadata["kind"] for field in dataclasses.fields(TrainConfig)}
    for name, value in differing.items():
        if kinds[name] == "fixed":
            raise UsageError(
                f"{name} was {getattr(recorded, name)} when the run began and cannot become {value}",
                "leave it out to go on, or name another --out for a new run",
            )
    told = [f"{name}: {getattr(recorded, name)} → {value}" for name, value in differing.items()
            if kinds[name] == "equivalent"]  # fmt: skip
    return dataclasses.replace(recorded, **differing), tuple(told)


def extended(config: RunConfig, step: int, steps: int) -> RunConfig:
    """The run that ends at ``steps``, as decided when it stood at ``step``."""
    extension = Extension(step=step, steps_before=config.train.steps, steps=steps)
    train = dataclasses.replace(config.train, steps=steps)
    return dataclasses.replace(config, train=train, extensions=(*config.extensions, extension))


def extension_told(config: RunConfig) -> str:
    """The last extension in words: "60 → 80 steps"."""
    last, train = config.extensions[-1], config.train
    is_over = train.schedule == "cosine" and train.min_learning_rate == 0
    warning = "; the cosine ended at a learning rate of 0, and nothing is learned from there on" if is_over else ""
    return f"{last.steps_before} → {last.steps} steps{warning}"


def with_data(config: RunConfig, data: Path, stream: StreamSource | None = None) -> RunConfig:
    """The run on its data, which is now in the folder ``data``. Raises DataError where that holds something else."""
    manifest = Manifest.read(data)
    if manifest.digest != config.data.manifest_digest:
        raise DataError(
            f'"{data}" does not hold the data that the run began with', f"it began with {config.data.source}"
        )
    location = None if stream is None else stream.location
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, folder=str(data.absolute()), stream=location)
    )


def _reference(data: Path, manifest: Manifest, stream: StreamSource | None) -> DataReference:
    if stream is None:
        source, revision, location = manifest.source, manifest.revision, None
        options = {**manifest.options, "subset": manifest.subset}
    else:
        source, revision, location = stream.name, stream.revision, stream.location
        options = {
            item.name: getattr(stream.config, item.name)
            for item in dataclasses.fields(stream.config)
            if item.metadata["kind"] == "fixed" and item.name != "revision"
        }
    return DataReference(
        folder=str(data.absolute()),
        manifest_digest=manifest.digest,
        tokenizer_digest=manifest.tokenizer_digest,
        source=source,
        revision=revision,
        options=options,
        stream=location,
    )


def _check_more_steps(before: int, steps: int, *, resumes: bool) -> None:
    if not resumes:
        raise UsageError(
            f"steps was {before} when the run began and cannot become {steps}",
            f"gemmazero resume RUN --steps {steps} extends it; --out names another folder for a new run",
        )
    if steps < before:
        raise UsageError(f"steps was {before} and can only grow, not become {steps}", "--max-time stops a run early")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _names(path: Path | None) -> set[str | None]:
    """What a run calls it: here, and where it was brought from the Hub."""
    return {None} if path is None else {_absolute(path), path.absolute().name}


def _with_defaults(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's settings under what was given; a default makes room for a given value that it does not fit."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainConfig)} | dict(preset)
    if unknown := sorted(set(given) - set(defaults)):
        raise UsageError(f'unknown setting "{unknown[0]}"', f"one of {', '.join(sorted(defaults))}")
    values = defaults | dict(given)
    if "warmup_steps" not in given and isinstance(values["steps"], int):
        values["warmup_steps"] = min(values["warmup_steps"], values["steps"] // 10)
    return values


def _require_same_tokenizer(model_folder: Path, manifest: Manifest) -> None:
    tokenizer = Tokenizer.load(model_folder).without_prompt_template()
    if tokenizer.digest != manifest.tokenizer_digest:
        raise CheckpointError(
            f'the data was prepared with another tokenizer than the model in "{model_folder}" has',
            f"gemmazero prepare … --tokenizer {model_folder}",
        )
