"""A model, a text and a run so small that a whole training takes a second."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gemmazero
from gemmazero.config import ModelConfig, PrepareConfig, TrainConfig
from gemmazero.data.batches import Batches
from gemmazero.data.feed import Feed
from gemmazero.data.prepare import prepare
from gemmazero.data.shards import TokenShards
from gemmazero.model.gemma import Gemma
from gemmazero.training.events import Stepped
from gemmazero.training.run import running
from gemmazero.training.settings import Request
from gemmazero.training.stop import Stop
from gemmazero.training.trainer import Trainer

VOCABULARY = 257  # of the tokenizer called bytes
MODEL = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=128,  # 4096 weights a matrix, the fewest that bitsandbytes keeps in 8 bits
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    query_pre_attn_scalar=16,
    layer_types=("sliding_attention", "full_attention"),
    sliding_window=5,
    max_position_embeddings=64,
    final_logit_softcapping=30.0,
)
SETTINGS: dict[str, Any] = {
    "steps": 6,
    "batch_size": 4,
    "micro_batch_size": 4,
    "sequence_length": 16,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "validate_every": 3,
    "validation_tokens": 64,
    "save_every": 2,
    "keep": 2,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
}

_WORDS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "owl", "ran", "sat", "saw")


def write_text(file: Path, documents: int, seed: int = 0) -> Path:
    """A JSONL file of small documents, no two alike."""
    chance = random.Random(seed)
    texts = [f"{number} {' '.join(chance.choices(_WORDS, k=6))}." for number in range(documents)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def prepare_data(folder: Path, documents: int, seed: int = 0, validation_fraction: float = 0.2) -> Path:
    """A data folder of such a text, in bytes."""
    text = write_text(folder.with_suffix(".jsonl"), documents, seed)
    prepare(str(text), folder, PrepareConfig(tokenizer="bytes", validation_fraction=validation_fraction))
    return folder


def write_preset(file: Path) -> Path:
    """The tiny model as a config file, for ``--preset``."""
    file.write_text(json.dumps(MODEL.to_json()))
    return file


def finished_run(folder: Path, data: Path, preset: Path, **settings: Any) -> Path:
    """A run that is done to its end, by the library."""
    gemmazero.train(preset=str(preset), data=str(data), out=folder, **SETTINGS | settings).run()
    return folder


def make_model(seed: int = 0, config: ModelConfig = MODEL) -> Gemma:
    """The tiny model with random weights, norms included, so that nothing is 0 by chance."""
    model = Gemma(config)
    generator = torch.Generator().manual_seed(seed)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return model


def make_trainer(data: Path, model: Gemma | None = None, **settings: Any) -> Trainer:
    """A trainer of the tiny model, or of ``model``, on the data folder ``data``."""
    config = TrainConfig(**SETTINGS | settings)
    shards = TokenShards(data, "train")
    batches = Batches(
        shards,
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        seed=config.seed,
        mask_documents=config.mask_documents,
    )
    return Trainer(model or make_model(), Feed(batches, config.batch_tokens), config, torch.device("cpu"))


def step(trainer: Trainer) -> Stepped:
    """One optimizer step, whatever its numbers."""
    return trainer.apply(trainer.attempt())


def train(request: Request, stop_after: int | None = None, stop_when: Callable[[Any], bool] | None = None) -> list[Any]:
    """The facts of a run, up to its end or to a wish to stop: after step ``stop_after``, or at an event."""
    stop = Stop()
    if stop_after == 0:
        stop.request("a wish")

    events = []
    for event in running(request, stop):
        events.append(event)
        if (stop_when is not None and stop_when(event)) or (
            stop_after is not None and getattr(event, "step", None) == stop_after
        ):
            stop.request("a wish")
    return events
