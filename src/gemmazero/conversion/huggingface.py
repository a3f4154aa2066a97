"""Any Gemma 2 or 3 folder → a plain transformers folder, and proof that the two are one model."""

import dataclasses
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gemmazero.conversion.verdict import SAMPLE_TEXTS, Verdict
from gemmazero.data.tokenizer import TOKENIZER_FILES, Tokenizer
from gemmazero.errors import CheckpointError, GemmaZeroError
from gemmazero.folder import real, whole_folder
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import CONFIG, GENERATION_CONFIG, WEIGHTS_INDEX, load_model, save_model

Format = Literal["huggingface", "gemmazero"]
StoredDtype = Literal["fp32", "bf16", "fp16"]

_EXPORTED = re.compile(
    rf"{re.escape(CONFIG)}|{re.escape(GENERATION_CONFIG)}|model(-\d{{5}}-of-\d{{5}})?\.safetensors|"
    rf"{re.escape(WEIGHTS_INDEX)}|{'|'.join(map(re.escape, TOKENIZER_FILES))}"
)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SEQUENCES = 2
_PAST_WINDOW = 32  # tokens
_AFFORDABLE = 2e12  # multiplications a model: some twenty seconds on two cores
_RELATIVE_TOLERANCE = 5e-5  # ten times what was measured between the two, 4 to 18 layers deep
_MEND = 'pip install --upgrade "gemmazero[verify]"'


def convert(
    source: Path, out: Path, *, to: Format = "huggingface", dtype: StoredDtype = "fp32", overwrite: bool = False
) -> Verdict:
    """Write the model in ``source``, ours or transformers', to ``out``: whole, or not at all.

    Stock ``AutoModelForCausalLM`` and ``AutoTokenizer`` load ``out`` whatever ``to`` is: our folders are theirs.
    Embedding rows beyond the tokenizer's ids are left out. A model already at ``out`` is replaced last of all, and only
    with ``overwrite``. A verdict that is not ok leaves ``out`` in place, for a look.

    Raises CheckpointError where ``out`` is taken or overlaps ``source``, or where ``source`` is no usable model.
    """
    _check_places(real(source), real(out), overwrite)
    padded = load_model(source, device="cpu", dtype=torch.float32)
    tokenizer = Tokenizer.load(source)
    model = _trimmed(padded, tokenizer.vocab_size)
    with whole_folder(out) as folder:
        save_model(model, tokenizer, folder, dtype=_DTYPES[dtype])
        verdict = _judge(model, tokenizer, folder, dtype)
        _check_places(real(source), real(out), overwrite)  # it took a while
    trimmed = padded.config.vocab_size - model.config.vocab_size
    return dataclasses.replace(verdict, folder=out, to=to, trimmed_embeddings=trimmed)


def _check_places(source: Path, out: Path, overwrite: bool) -> None:
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise CheckpointError(f'"{out}" and the model that it is made from overlap', "name a folder elsewhere")
    if not out.exists():
        return
    if not overwrite:
        raise CheckpointError(f'"{out}" exists already', "name another folder, or --overwrite it")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else [out.name]
    foreign = [name for name in names if not _EXPORTED.fullmatch(name) or not (out / name).is_file()]
    if foreign or (names and CONFIG not in names):
        holds = f'it holds "{foreign[0]}"' if foreign else f"it holds no {CONFIG}"
        raise CheckpointError(f'"{out}" is not a converted model, {holds}', "name another folder, or move that away")


def _trimmed(model: Gemma, rows: int) -> Gemma:
    """``model`` without the embedding rows from ``rows`` on: other software takes each for a token."""
    config = model.config
    if config.vocab_size <= rows:
        return model
    pad = config.pad_token_id if config.pad_token_id is not None and config.pad_token_id < rows else None
    with torch.device("meta"):
        trimmed = Gemma(dataclasses.replace(config, vocab_size=rows, pad_token_id=pad))
    weights = model.state_dict()
    for name in {"model.embed_tokens.weight", "lm_head.weight"} & set(weights):
        weights[name] = weights[name][:rows]
    trimmed.load_state_dict(weights, assign=True)
    return trimmed


def _judge(model: Gemma, tokenizer: Tokenizer, folder: Path, dtype: StoredDtype) -> Verdict:
    """Read the written ``folder`` back and compare it with ``model``, whose weights are rounded to ``dtype`` here."""
    reader = _reader()
    ids = _probe(model)
    exact = _logits(model, ids)
    _round(model, _DTYPES[dtype])
    rounded = _logits(model, ids)
    written = reader.logits(folder, ids)
    largest = float(rounded.abs().max())
    tolerance = _RELATIVE_TOLERANCE * largest
    best, second = rounded.topk(2).values.unbind(-1)
    differs = written.argmax(-1) != rounded.argmax(-1)
    slides = "sliding_attention" in model.config.layer_types
    ours = [_spelled(tokenizer.encode(text), tokenizer.decode) for text in SAMPLE_TEXTS]
    theirs = reader.spell(folder)
    weights = "" if dtype == "fp32" else f", its weights rounded to {dtype}"
    return Verdict(
        folder=folder,
        to="",
        dtype=dtype,
        logits_compared=f"OUT read by {reader.name}, SOURCE read by GemmaZero{weights}; both computed in float32",
        sequences=len(ids),
        sequence_length=ids.shape[1],
        longer_than_window=not slides or ids.shape[1] > model.config.sliding_window,
        largest_logit_difference=float((written - rounded).abs().max()),
        logit_tolerance=tolerance,
        tolerance_reason=f"float32 rounding: {_RELATIVE_TOLERANCE:g} of the largest logit, {largest:.3g}",
        next_tokens=ids.numel(),
        different_next_tokens=int(differs.sum()),
        wrong_next_tokens=int((differs & (best - second > tolerance)).sum()),
        largest_rounding_difference=float((rounded - exact).abs().max()),
        tokenizers_compared=f"OUT read by {reader.name}, SOURCE read by GemmaZero; ids, and the text decoded from them",
        texts=len(SAMPLE_TEXTS),
        mismatched_texts=sum(one != other for one, other in zip(ours, theirs, strict=True)),
        trimmed_embeddings=0,
    )


def _probe(model: Gemma) -> Tensor:
    """(B, T) ids, always the same, longer than the sliding window where that is affordable."""
    config = model.config
    affordable = int(_AFFORDABLE / _SEQUENCES / sum(weight.numel() for weight in model.parameters()))
    length = max(8, min(config.sliding_window + _PAST_WINDOW, affordable))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        config.vocab_size, (_SEQUENCES, min(length, config.max_position_embeddings)), generator=generator
    )


@torch.inference_mode()
def _logits(model: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    logits = model(ids)
    if not logits.isfinite().all():
        raise CheckpointError("the model's logits are not finite numbers", "convert another checkpoint")
    return logits


@torch.no_grad()
def _round(model: Gemma, dtype: torch.dtype) -> None:
    for weight in model.parameters():
        weight.copy_(weight.to(dtype))


_Spelled = tuple[list[int], str]


def _spelled(ids: list[int], decode: Callable[[list[int]], str]) -> _Spelled:
    """A text's ids, and the text that they decode to."""
    return ids, decode(ids)


@dataclass(frozen=True)
class _Reader:
    """Who reads a written folder back: its logits for some ids in float32, its spelling of ``SAMPLE_TEXTS``."""

    name: str
    logits: Callable[[Path, Tensor], Tensor]
    spell: Callable[[Path], list[_Spelled]]


def _reader() -> _Reader:
    if importlib.util.find_spec("transformers") is None:
        name = "GemmaZero too (transformers is not installed, so nothing independent was compared)"
        return _Reader(name, _our_logits, _our_spelling)
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer, __version__  # noqa: F401 - loaded when asked for
    except ImportError as error:
        raise CheckpointError(f"transformers is installed, but cannot be imported: {error}", _MEND) from error
    return _Reader(f"transformers {__version__}", _transformers_logits, _transformers_spelling)


def _our_logits(folder: Path, ids: Tensor) -> Tensor:
    return _logits(load_model(folder, device="cpu", dtype=torch.float32), ids)


def _our_spelling(folder: Path) -> list[_Spelled]:
    tokenizer = Tokenizer.load(folder)
    return [_spelled(tokenizer.encode(text), tokenizer.decode) for text in SAMPLE_TEXTS]


def _transformers_logits(folder: Path, ids: Tensor) -> Tensor:
    from transformers import AutoModelForCausalLM

    with _reading_by_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
        return _logits(lambda ids: model(ids, use_cache=False).logits.float(), ids)


def _transformers_spelling(folder: Path) -> list[_Spelled]:
    from transformers import AutoTokenizer

    with _reading_by_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

        def decode(ids: list[int]) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

        return [
            _spelled(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True), decode)
            for text in SAMPLE_TEXTS
        ]


@contextmanager
def _reading_by_transformers() -> Iterator[None]:
    """transformers without its talk; what it cannot read is CheckpointError."""
    from transformers.utils import logging

    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except GemmaZeroError:
        raise
    except Exception as error:  # whatever it raises for what it cannot read
        raise CheckpointError(f"transformers cannot read the written folder: {error}", _MEND) from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()
