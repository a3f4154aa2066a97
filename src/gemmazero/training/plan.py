"""What a run will cost, before it starts; nothing is prepared or written."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.data.prepare import default_folder
from gemmazero.data.shards import MANIFEST, SPLITS, Manifest
from gemmazero.data.sources import default_tokenizer
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CompilationError, UsageError, is_out_of_memory
from gemmazero.training.memory import Memory, memory_model
from gemmazero.training.optimizer import decay_start
from gemmazero.training.probe import Probed, probe
from gemmazero.training.record import load_drawing
from gemmazero.training.settings import Request, resolved
from gemmazero.training.throughput import free_memory, memory_bytes, step_flops


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run in numbers. Bytes, seconds; None where something is not known yet."""

    run: Path
    preset: str
    device: str
    precision: str
    threads: int
    batch_size: int
    micro_batch_size: int
    sequence_length: int
    parameters: int
    vocabulary: int
    vocabulary_is_assumed: bool
    """Whether the data is still to be prepared, so that nobody knows its vocabulary."""
    steps: int
    tokens: int
    flops: int
    memory: Memory
    memory_free: int | None
    checkpoint_bytes: int
    data_bytes: int | None
    disk_bytes: int
    """Of all checkpoints that are kept at most, and the data where it is there."""
    seconds_per_step: float | None
    """None where the run does not fit in the free memory, so that it was not tried."""
    seconds: float | None
    """Of all steps and validations; saving is not counted."""
    tokens_per_second: float | None
    mfu: float | None
    uncompiled_because: str | None
    """Why blocks cannot be compiled here, where they were to be; the run would go on without."""

    @property
    def fits(self) -> bool:
        """Whether memory suffices, so far as it is known."""
        return self.memory_free is None or self.memory.total - self.memory.process <= self.memory_free


def planned(request: Request) -> Plan:
    """Plan the run that is asked for from the first step to the last, whatever its folder holds already.

    Its memory is predicted from one layer of each kind. Where that fits, a few steps are done on random tokens for
    the time, and their peak replaces the prediction of the total.

    Raises:
        UsageError: the settings do not fit together, or it is asked to go on with a run.
        DataError: the data folder cannot be used.
    """
    if request.resumes:
        raise UsageError("a plan is of a whole run, not of what is left of one", "gemmazero.train(…).plan()")
    folder = _data_folder(request)
    manifest = None if folder is None else Manifest.read(folder)
    tokenizer = None if folder is None else Tokenizer.load(folder)  # GPT-2's takes 50 MB, and a run holds it, too
    load_drawing()  # likewise
    model = request.base.model if request.init else _with_vocabulary(request, manifest)
    settings = resolved(request, model)
    device, size = torch.device(settings.device), settings.micro_batch_size
    assert size != "auto"
    process, free = (0 if device.type == "cuda" else memory_bytes(device)), free_memory(device)
    memory = memory_model(model, settings, device).memory(settings, size, process)
    probed = problem = None
    if free is None or memory.total - process <= free:
        probed, problem = _probed(model, settings)
    del tokenizer
    if probed is not None:
        memory = replace(memory, total=probed.memory_bytes)
    checkpoint = memory.parameters + memory.optimizer
    data_bytes = None if manifest is None else sum(facts.bytes for facts in manifest.files.values())
    return Plan(
        run=request.folder,
        preset=request.base.name,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        batch_size=settings.batch_size,
        micro_batch_size=size,
        sequence_length=settings.sequence_length,
        parameters=model.parameters,
        vocabulary=model.vocab_size,
        vocabulary_is_assumed=manifest is None and request.init is None,
        steps=settings.steps,
        tokens=settings.steps * settings.batch_tokens,
        flops=settings.steps * step_flops(model, settings),
        memory=memory,
        memory_free=free,
        checkpoint_bytes=checkpoint,
        data_bytes=data_bytes,
        disk_bytes=most_kept(settings) * checkpoint + (data_bytes or 0),
        seconds_per_step=None if probed is None else probed.seconds_per_step,
        seconds=None if probed is None else _seconds(settings, manifest, probed),
        tokens_per_second=None if probed is None else settings.batch_tokens / probed.seconds_per_step,
        mfu=None if probed is None else probed.mfu,
        uncompiled_because=problem,
    )


def most_kept(settings: TrainConfig) -> int:
    """How many checkpoints a run has at most once it has let go of the others; what is saved at a stop not counted.

    They are the newest, and those to go back to: the best, the last that was validated; with wsd the one before the
    decay, and the best until then.
    """
    steps, validate, keep = settings.steps, settings.validate_every, settings.keep
    save = 1 if settings.save_minutes else settings.save_every  # by the clock it may be any step
    hold = decay_start(steps) if settings.schedule == "wsd" else steps
    apart = [step for step in {hold, steps} if step % save and step % validate]

    def saved(until: int) -> int:
        regular = until // save + until // validate - until // math.lcm(save, validate)
        return regular + sum(step <= until for step in apart)

    after_hold = saved(steps) - saved(hold)
    after_validation = (validate - 1 - math.gcd(save, validate) + save) // save + len(apart)
    validated = min(1 + (after_validation >= keep) + (after_hold > keep), (steps - 1) // validate)
    return min(saved(steps), keep + validated + (after_hold >= keep))


def _data_folder(request: Request) -> Path | None:
    """That the run would read; None where it is still to be prepared."""
    folders = (Path(request.source), default_folder(request.source))
    found = (folder for folder in folders if (folder / MANIFEST).is_file() and not request.settings.get("stream"))
    return next(found, None)


def _with_vocabulary(request: Request, manifest: Manifest | None) -> ModelConfig:
    """The preset with the data's vocabulary; with its tokenizer's where its name tells it, else with GPT-2's."""
    model = request.base.model
    if manifest is not None:
        return model.with_vocabulary(manifest.vocab_size, manifest.end_id)
    tokenizer = str(request.options.get("tokenizer") or default_tokenizer(request.source))
    number = tokenizer.removeprefix("bpe:")
    size = {"bytes": 257}.get(tokenizer, int(number) if number.isdecimal() else 50_257)
    return model.with_vocabulary(size, size - 1)


def _probed(model: ModelConfig, settings: TrainConfig) -> tuple[Probed | None, str | None]:
    """What a few steps cost, None where there was not enough memory after all; and why they were not compiled."""
    try:
        return probe(model, settings), None
    except CompilationError as error:
        return _probed(model, replace(settings, compile=False))[0], error.message
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None, None


def _seconds(settings: TrainConfig, manifest: Manifest | None, probed: Probed) -> float:
    """All steps; a validation each so often and at the end, and at the end one of the whole split."""
    whole = None if manifest is None else manifest.splits[SPLITS[1]].tokens
    part = settings.validation_tokens if whole is None else min(settings.validation_tokens or whole, whole)
    validated = -(-settings.steps // settings.validate_every) * part
    if whole is not None and part < whole:
        validated += whole
    return settings.steps * probed.seconds_per_step + validated * probed.seconds_per_validation_token
