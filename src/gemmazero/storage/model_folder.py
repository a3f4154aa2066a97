"""A transformers model folder: written plainly, read strictly."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gemmazero.config import ModelConfig
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.json_file import read_json
from gemmazero.model.gemma import Gemma
from gemmazero.storage.tensor_file import write_shards
from gemmazero.storage.tensor_header import TensorFacts, check_header

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"


def save_model(model: Gemma, tokenizer: Tokenizer, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write config, weights and tokenizer into the existing ``folder``, so that transformers' Auto classes load it.

    Equal models give equal bytes. A tied head is not stored; padded embedding rows are, so that ``load_model`` gives
    the same model back. Nothing is synced or renamed: the caller makes the folder appear whole.

    Raises CheckpointError where the tokenizer has ids that the model has no embedding for or where a weight is too
    large for ``dtype``, OSError where a file cannot be written.
    """
    if model.config.vocab_size < tokenizer.needed_embeddings:
        raise CheckpointError(
            f"the tokenizer gives {tokenizer.needed_embeddings} ids, the model embeds {model.config.vocab_size}",
            "use the tokenizer that the model was trained with",
        )
    precision = str(dtype).removeprefix("torch.")
    config = model.config.to_json() | {"dtype": precision, "torch_dtype": precision}
    tensors = {name: _narrowed(name, weight, dtype) for name, weight in model.state_dict().items()}
    _write_json(folder / CONFIG, config)
    _write_json(folder / GENERATION_CONFIG, _generation_config(model.config, tokenizer))
    places = write_shards(tensors, folder, "model")
    if WEIGHTS not in places.values():
        size = sum(tensor.nbytes for tensor in tensors.values())
        _write_json(folder / WEIGHTS_INDEX, {"metadata": {"total_size": size}, "weight_map": places})
    tokenizer.save(folder)


def load_model(folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> Gemma:
    """The Gemma 2 or 3 text model in ``folder``, ours or transformers': one file, shards, or a multimodal wrapper.

    Its weights are copies: the files may change or go afterwards. No more memory is taken than the files' sizes
    justify, whatever the config says. A file may be a link, as in the Hub's cache.

    Raises CheckpointError where there is no model, where a file is damaged, or where tensors are missing, unknown, of
    the wrong shape or not of floating point; ConfigError where the config is not one that ``Gemma`` computes.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f'no model in "{folder}": {CONFIG} is missing', "name a folder that holds a model")
    config = ModelConfig.read(folder / CONFIG)
    stored = _stored_tensors(folder)
    if config.num_hidden_layers > len(stored):
        raise CheckpointError(
            f'"{folder}" holds {len(stored)} tensors, its {CONFIG} tells of {config.num_hidden_layers} layers',
            _COPY_AGAIN,
        )
    with torch.device("meta"):
        model = Gemma(config)
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    if config.tie_word_embeddings:
        _drop_equal_head(folder, stored)
    _check(folder, stored, expected)
    weights = {name: stored[name].read().to(device, dtype, copy=True).contiguous() for name in expected}
    model.load_state_dict(weights, assign=True)
    return model


@dataclass(frozen=True)
class _StoredTensor:
    """Where a tensor lies, and what the file's header says of it."""

    file: Path
    key: str
    facts: TensorFacts

    def read(self) -> Tensor:
        """The tensor, mapped from its file. Raises CheckpointError where the library does not find it there."""
        try:
            with safe_open(self.file, framework="pt") as weights:
                tensor: Tensor = weights.get_tensor(self.key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f'"{self.file}" is damaged: {error}', _COPY_AGAIN) from error
        return tensor


def _stored_tensors(folder: Path) -> dict[str, _StoredTensor]:
    """Every text tensor in ``folder`` under the name that ``Gemma`` gives it, read from the headers alone."""
    stored: dict[str, _StoredTensor] = {}
    for file in _weight_files(folder):
        for key, facts in check_header(file).items():
            if (name := _text_name(key)) is None:
                continue
            if name in stored:
                raise CheckpointError(f'"{folder}" holds the tensor "{name}" twice', _SAVE_AGAIN)
            stored[name] = _StoredTensor(file, key, facts)
    return stored


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / WEIGHTS_INDEX).is_file():
        if any(folder.glob("*.bin")):
            raise CheckpointError(f'the weights in "{folder}" are a pickle, which can run code', _SAVE_AGAIN)
        raise CheckpointError(f'no weights in "{folder}": {WEIGHTS} is missing', _COPY_AGAIN)
    try:
        shards = read_json(folder / WEIGHTS_INDEX).get("weight_map")
    except ConfigError as error:
        raise CheckpointError(error.message, _COPY_AGAIN) from error
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f'"{folder / WEIGHTS_INDEX}" has no weight_map', _COPY_AGAIN)
    for shard in shards.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f'{WEIGHTS_INDEX} names the shard "{shard}", which is not a .safetensors file beside it', _SAVE_AGAIN
            )
    return [folder / shard for shard in sorted(set(shards.values()))]


def _text_name(key: str) -> str | None:
    """What ``Gemma`` calls a stored tensor; None for the vision half of a multimodal checkpoint."""
    bare = key.removeprefix("model.")
    if bare.startswith(("vision_tower.", "multi_modal_projector.")):
        return None
    if bare.startswith("language_model."):
        inner = bare.removeprefix("language_model.")
        return inner if inner.startswith(("model.", "lm_head.")) else f"model.{inner}"
    return key


def _drop_equal_head(folder: Path, stored: dict[str, _StoredTensor]) -> None:
    """A tied checkpoint may store the head all the same, if it is the embedding."""
    head, embedding = stored.pop("lm_head.weight", None), stored.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return
    if head.facts.shape != embedding.facts.shape or not torch.equal(head.read(), embedding.read()):
        raise CheckpointError(
            f'"{folder}" ties the head to the embedding, but its lm_head.weight is another matrix',
            f"set tie_word_embeddings to false in its {CONFIG}, or remove the tensor",
        )


def _check(folder: Path, stored: Mapping[str, _StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError with all that does not fit."""
    both = [(name, stored[name]) for name in expected if name in stored]
    problems = {
        "missing": [name for name in expected if name not in stored],
        "unknown": [name for name in stored if name not in expected],
        "of the wrong shape": [
            f"{name} {list(tensor.facts.shape)} instead of {list(expected[name])}"
            for name, tensor in both
            if tensor.facts.shape != expected[name]
        ],
        "not of floating point": [
            f"{name} {tensor.facts.dtype}" for name, tensor in both if tensor.facts.dtype not in _FLOATS
        ],
    }
    found = [f"{len(names)} {problem} ({_shortened(names)})" for problem, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f'the tensors in "{folder}" do not fit its {CONFIG}: {"; ".join(found)}',
            "config and weights must be of one model; quantized weights are not supported",
        )


def _generation_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Where transformers' ``generate`` stops: the end of a document and, with turn tokens, of a turn."""
    ends = config.eos_token_id if config.eos_token_id is not None else tokenizer.end_id
    stops = list(ends) if isinstance(ends, tuple) else [ends]
    if tokenizer.turn_ids is not None and tokenizer.turn_ids[1] not in stops:
        stops.append(tokenizer.turn_ids[1])
    return {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": stops,
        "pad_token_id": tokenizer.end_id if config.pad_token_id is None else config.pad_token_id,
    }


def _narrowed(name: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy of ``weight`` in memory and ``dtype``."""
    copy = weight.detach().to("cpu", dtype, copy=True).contiguous()
    if dtype == torch.float16 and weight.isfinite().all() and not copy.isfinite().all():
        raise CheckpointError(f'the tensor "{name}" is too large for fp16', "--dtype bf16 has the range of fp32")
    return copy


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _shortened(names: Iterable[str]) -> str:
    shown = list(names)
    more = f", and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ", ".join(shown[:4]) + more


_FLOATS = ("F64", "F32", "BF16", "F16")
_SAVE_AGAIN = "save it again with transformers: model.save_pretrained(folder), which writes safetensors"
_COPY_AGAIN = "copy the model folder again"
