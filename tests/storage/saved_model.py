"""Tiny models in folders of their own, whole or spoilt."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemmazero.config import ModelConfig
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import load_model, save_model
from tiny_run import MODEL, make_model

TOKENIZER = make_tokenizer("bytes", list, turn_tokens=True)
CONFIG = MODEL.with_vocabulary(TOKENIZER.vocab_size, TOKENIZER.end_id)
SHAPES = {
    "gemma3": CONFIG,
    "gemma3 untied": replace(CONFIG, tie_word_embeddings=False, rope_scaling_factor=8.0),
    "gemma2": replace(CONFIG, model_type="gemma2", attn_logit_softcapping=50.0, rope_theta=10_000.0),
}
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def saved(folder: Path, config: ModelConfig = CONFIG, **options: Any) -> Gemma:
    """A random model, saved in ``folder``."""
    model = make_model(config=config)
    folder.mkdir(exist_ok=True)
    save_model(model, TOKENIZER, folder, **options)
    return model


def load(folder: Path) -> Gemma:
    return load_model(folder, device="cpu", dtype=torch.float32)


def edit_weights(folder: Path, changes: dict[str, Tensor | None]) -> None:
    """Replace tensors of the stored model, or remove them (None)."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def edit_config(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | changes))


def transformers_model(config: ModelConfig) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config.to_json()), attn_implementation="eager"
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    return model.eval()
