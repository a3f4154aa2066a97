from pathlib import Path

import pytest
import torch

from gemmazero.config import ModelConfig, PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.model.gemma import Gemma
from gemmazero.storage.model_folder import save_model

STORIES = [f"Once there was a cat who had {count} hats and wanted {count + 1}." for count in range(60)]


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty stories in bytes."""
    folder = tmp_path_factory.mktemp("data")
    source = folder / "stories.txt"
    source.write_text("\n".join(STORIES), encoding="utf-8")
    lines = folder / "stories.jsonl"
    lines.write_text("".join(f'{{"text": "{story}"}}\n' for story in STORIES), encoding="utf-8")
    config = PrepareConfig(tokenizer="bytes", validation_fraction=0.2)
    return prepare(str(lines), folder / "prepared", config).folder


@pytest.fixture(scope="session")
def story_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights over bytes, with no turn tokens."""
    return _random_model(tmp_path_factory.mktemp("story"), turn_tokens=False)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with turn tokens."""
    return _random_model(tmp_path_factory.mktemp("chat"), turn_tokens=True)


def _random_model(folder: Path, *, turn_tokens: bool) -> Path:
    tokenizer = make_tokenizer("bytes", list, turn_tokens=turn_tokens)
    config = ModelConfig(
        vocab_size=1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        layer_types=("sliding_attention", "full_attention"),
        sliding_window=16,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    ).with_vocabulary(tokenizer.vocab_size, tokenizer.end_id)
    model = Gemma(config)
    model.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 5.0  # so that this feature is positive everywhere,
        model.lm_head.weight[tokenizer.end_id].zero_()
        model.lm_head.weight[tokenizer.end_id, 0] = -50.0  # and it never stops by itself
    save_model(model, tokenizer, folder)
    return folder
