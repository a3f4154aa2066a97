"""What ``import gemmazero`` offers: prepare, train, resume, verify, load → LanguageModel, evaluate, convert."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemmazero.config import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_SOURCE,
    STREAM_OPTIONS,
    DeviceName,
    ModelConfig,
    PrepareConfig,
)
from gemmazero.conversion.huggingface import Format, StoredDtype
from gemmazero.conversion.huggingface import convert as convert_folder
from gemmazero.conversion.verdict import Verdict
from gemmazero.data.events import PrepareEvent, PrepareReport
from gemmazero.data.prepare import prepare as prepare_folder
from gemmazero.data.shards import Split, TokenShards
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, DataError, UsageError
from gemmazero.evaluation.perplexity import Evaluation
from gemmazero.evaluation.perplexity import evaluating as evaluating_model
from gemmazero.hub_name import is_hub_name
from gemmazero.inference.continuation import Piece, continuing
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler
from gemmazero.json_file import read_json
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import quantize_model
from gemmazero.run_config import RunConfig
from gemmazero.runtime import choose_device, keep_freed_memory
from gemmazero.storage.checkpoint import list_checkpoints
from gemmazero.storage.checkpoints import Checkpoints, Inspection
from gemmazero.storage.locate import CHECKPOINTS, RUN_FILE, locate_model, newest_run, run_from_hub, run_of
from gemmazero.storage.model_folder import load_model
from gemmazero.training.events import Event, Finished, Stopped
from gemmazero.training.plan import Plan, planned
from gemmazero.training.run import running
from gemmazero.training.settings import Request
from gemmazero.training.stop import Stop

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
DEFAULT_WINDOW = 1024  # tokens, for a model that belongs to no run


def prepare(
    source: str = DEFAULT_SOURCE, out: str | Path | None = None, *, overwrite: bool = False, **options: Any
) -> PrepareReport:
    """Turn text into a data folder; ``options`` are the fields of PrepareConfig. Returns its report."""
    folder = None if out is None else Path(out)
    return prepare_folder(source, folder, PrepareConfig(**options), overwrite=overwrite)


def train(
    *,
    preset: str | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    init: str | Path | None = None,
    **settings: Any,
) -> "Training":
    """A run of a preset or config file on a data folder or a SOURCE; nothing happens until it is iterated or run.

    Args:
        preset: a preset's name or a transformers-style config JSON; left out, ``15m``.
        data: a data folder, or a SOURCE that is prepared first; left out, TinyStories.
        out: the run folder; left out, ``runs/<preset>-<data's name>``. A run that is there already goes on.
        init: a MODEL whose weights the run starts from, in place of ``preset``.
        settings: fields of TrainConfig, the preset decides those left out; with ``stream=True`` also those fields of
            PrepareConfig that ``config.STREAM_OPTIONS`` names.
    """
    options = {name: settings.pop(name) for name in STREAM_OPTIONS if name in settings}
    return Training(
        Request(
            out=None if out is None else Path(out),
            preset=preset,
            data=None if data is None else str(data),
            init=None if init is None else locate_model(init),
            options=options,
            settings=settings,
        )
    )


def resume(run: str | Path | None = None, *, data: str | Path | None = None, **settings: Any) -> "Training":
    """Go on with a run from the exact step; left out, with the newest under ``runs/``.

    Args:
        run: the run folder, or a repository on the Hub that holds a run's state: the newest of both is taken.
        data: where its data folder now is.
        settings: fields of TrainConfig that may be given anew; others are refused; more ``steps`` extend the run.
    """
    given = None if data is None else str(data)
    if run is not None and not Path(run).exists() and is_hub_name(name := str(run)):
        settings = {"hub_repo": name} | settings
        return Training(Request(out=run_from_hub(name), data=given, settings=settings, resumes=True, by_hub_name=True))
    return Training(Request(out=_run_folder(run), data=given, settings=settings, resumes=True))


def verify(run: str | Path | None = None) -> Iterator[Inspection]:
    """Look at every checkpoint of a run, the newest first: is each file what was written?

    Args:
        run: the run folder; left out, the newest under ``runs/``.

    Raises:
        CheckpointError: there is no such run, or it has no checkpoint.
    """
    folder = _run_folder(run)
    config = RunConfig.from_json(read_json(folder / RUN_FILE))
    if not list_checkpoints(folder / CHECKPOINTS):
        raise CheckpointError(f'the run "{folder}" has no checkpoint yet', f"gemmazero resume {folder}")
    return Checkpoints(folder, config).inspections()


class Training:
    """A run that is asked for. Iterating it does it, and yields its events; leaving the loop early saves first.

    Raises:
        GemmaZeroError: while iterating, where something a user can mend stands in the way.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._stop = Stop()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._request.folder

    def __iter__(self) -> Iterator[PrepareEvent | Event]:
        try:
            yield from running(self._request, self._stop)
        finally:
            self._stop = Stop()

    def run(self) -> Finished | Stopped:
        """Go to the end without looking; returns the last event."""
        last = deque(self, maxlen=1).pop()
        assert isinstance(last, Finished | Stopped)
        return last

    def plan(self) -> Plan:
        """What the run will cost, by a few steps on random tokens; nothing is prepared or written."""
        return planned(self._request)

    def stop(self, reason: str) -> None:
        """Ask the run to stop after the current step; it saves, then yields Stopped. Safe in a signal handler."""
        self._stop.request(reason)


def load(
    model: str | Path | None = None,
    *,
    device: DeviceName = "auto",
    dtype: str | None = None,
    compile: bool | None = None,
) -> "LanguageModel":
    """The model called MODEL: a run (its best checkpoint), a checkpoint, a transformers Gemma 2 or 3 folder, a Hub id.

    Args:
        model: left out, the newest run under ``runs/``.
        device: ``auto`` takes the best there is.
        dtype: fp32 (the default), bf16, fp16, or int8, which only decodes: 8-bit weights, float32 between them.
        compile: decode by machine code, which takes a minute on a GPU; left out, where a CPU has a C++ compiler.
    """
    if dtype not in (None, *DTYPES):
        raise UsageError(f'--dtype "{dtype}" is unknown', f"one of {', '.join(DTYPES)}")
    keep_freed_memory()
    folder = locate_model(model)
    tokenizer = Tokenizer.load(folder)
    gemma = load_model(folder, device=choose_device(device), dtype=DTYPES[dtype or "fp32"])
    if tokenizer.needed_embeddings > gemma.config.vocab_size:
        raise CheckpointError(
            f'the tokenizer in "{folder}" gives {tokenizer.needed_embeddings} ids, '
            f"the model embeds {gemma.config.vocab_size}",
            "copy there the tokenizer that the model was trained with",
        )
    return LanguageModel(folder, quantize_model(gemma) if dtype == "int8" else gemma, tokenizer, compile=compile)


class LanguageModel:
    """A model, its tokenizer, and the folder they came from."""

    def __init__(self, folder: Path, gemma: Gemma, tokenizer: Tokenizer, *, compile: bool | None = None) -> None:
        self.folder = folder
        self.gemma = gemma.eval()
        self.tokenizer = tokenizer
        self._compile = compile

    @cached_property
    def generator(self) -> Generator:
        """What writes with the model: its weights must not change from now on, and float32 sums round otherwise."""
        return Generator(self.gemma, compile=self._compile)

    @property
    def config(self) -> ModelConfig:
        """The architecture."""
        return self.gemma.config

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """int64 (B, T) → float32 (B, T, V), no gradient. Raises IndexError for an id of no token, on a CPU."""
        logits: Tensor = self.gemma(ids.to(self.gemma.device))
        return logits

    def generate(self, prompt: str, **options: Any) -> str:
        """The whole continuation of ``prompt``; options as for ``stream``."""
        return "".join(self.stream(prompt, **options))

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        seed: int = 0,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[str]:
        """The continuation of ``prompt`` in pieces, never half a character.

        Args:
            prompt: an empty one begins a document.
            max_tokens: ids written at most; the end of the document may come first.
            seed: the same seed gives the same text.
            stop: texts that end the continuation; they are not part of it.
            sampling: fields of Sampler: temperature, top_k, top_p, min_p, repetition_penalty.
        """
        pieces = continuing(
            self.generator, self.tokenizer, [prompt],
            sampler=Sampler(**sampling), max_tokens=max_tokens, seed=seed, stop=stop,
        )  # fmt: skip
        return (piece.text for piece in pieces if isinstance(piece, Piece))


def evaluate(
    model: LanguageModel | str | Path | None = None, data: str | Path | None = None, *, split: Split = "validation"
) -> Evaluation:
    """Loss, perplexity, bits per byte and accuracy over the whole split; the last of ``evaluating``'s results."""
    return deque(evaluating(model, data, split=split), maxlen=1).pop()


def evaluating(
    model: LanguageModel | str | Path | None = None, data: str | Path | None = None, *, split: Split = "validation"
) -> Iterator[Evaluation]:
    """The evaluation so far, after each batch of windows.

    Args:
        model: a LanguageModel or a MODEL.
        data: a data folder; left out, that of the model's run. A run that masks documents is scored so.
        split: train or validation.

    Raises:
        DataError: the data was prepared with another tokenizer, or there is none.
    """
    loaded = model if isinstance(model, LanguageModel) else load(model)
    run = run_of(loaded.folder)
    config = None if run is None else RunConfig.from_json(read_json(run / RUN_FILE))
    if data is None:
        if config is None:
            raise DataError(f'"{loaded.folder}" belongs to no run: its data is not known', "--data names a data folder")
        data = config.data.folder
        if not Path(data).exists():
            raise DataError(f'the run\'s data folder "{data}" is gone', "--data names where it is now")
    shards = TokenShards(Path(data), split)
    if shards.manifest.tokenizer_digest != loaded.tokenizer.without_prompt_template().digest:
        raise DataError(
            f'"{shards.folder}" was prepared with another tokenizer than the model\'s',
            f"gemmazero prepare … --tokenizer {loaded.folder}",
        )
    length = min(config.train.sequence_length if config else DEFAULT_WINDOW, loaded.config.max_position_embeddings)
    is_masked = config is not None and config.train.mask_documents
    return evaluating_model(loaded.gemma, shards, sequence_length=length, mask_documents=is_masked)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: Format = "huggingface",
    dtype: StoredDtype = "fp32",
    overwrite: bool = False,
) -> Verdict:
    """Write the MODEL ``source`` as the folder ``out`` in another format, and say what was compared with what."""
    return convert_folder(locate_model(source), Path(out), to=to, dtype=dtype, overwrite=overwrite)


def _run_folder(run: str | Path | None) -> Path:
    folder = newest_run() if run is None else Path(run)
    if not (folder / RUN_FILE).is_file():
        raise CheckpointError(f'"{folder}" is not a run folder: it has no {RUN_FILE}', "gemmazero train begins a run")
    return folder
