import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.errors import ConfigError, UsageError
from gemmazero.model.gemma import Gemma
from gemmazero.presets import DEFAULT_PRESET, PRESETS, find_preset

GPT2_VOCABULARY, GEMMA_VOCABULARY, SAMPLE_VOCABULARY = 50_257, 262_144, 1024


def parameters(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Gemma(config).parameters())


@pytest.mark.parametrize(
    ("name", "vocabulary", "count"),
    [
        ("nano", SAMPLE_VOCABULARY, 1_116_544),
        ("15m", GPT2_VOCABULARY, 15_065_216),
        ("90m", GPT2_VOCABULARY, 90_522_624),
        ("270m", GPT2_VOCABULARY, 132_490_496),
        ("270m", GEMMA_VOCABULARY, 268_098_176),  # Gemma 3 270M
        ("1b", GPT2_VOCABULARY, 755_792_128),
        ("1b", GEMMA_VOCABULARY, 999_885_952),  # Gemma 3 1B
    ],
)
def test_preset_has_its_number_of_parameters(name: str, vocabulary: int, count: int) -> None:
    assert parameters(PRESETS[name].model.with_vocabulary(vocabulary, 0)) == count


def test_presets_are_those_promised() -> None:
    assert list(PRESETS) == ["nano", "15m", "90m", "270m", "1b"]
    assert all(preset.name == name for name, preset in PRESETS.items())
    assert DEFAULT_PRESET in PRESETS


TABLE: Mapping[str, tuple[Any, ...]] = {  # width, layers, heads, kv, head, hidden, window, pattern, context
    "15m": (192, 10, 3, 1, 64, 768, 256, "sssssfssss", 1024),
    "90m": (768, 6, 6, 2, 128, 3072, None, "ffffff", 1024),
    "270m": (640, 18, 4, 1, 256, 2048, 512, "sssssf" * 3, 32_768),
    "1b": (1152, 26, 4, 1, 256, 6912, 512, "sssssf" * 4 + "ss", 32_768),
}


@pytest.mark.parametrize("name", TABLE)
def test_preset_has_its_shape(name: str) -> None:
    width, layers, heads, groups, head, hidden, window, pattern, context = TABLE[name]
    model = PRESETS[name].model
    assert (model.hidden_size, model.num_hidden_layers, model.intermediate_size) == (width, layers, hidden)
    assert (model.num_attention_heads, model.num_key_value_heads, model.head_dim) == (heads, groups, head)
    assert model.query_pre_attn_scalar == head
    assert "".join(kind[0] for kind in model.layer_types) == pattern
    assert window in (None, model.sliding_window)
    assert model.max_position_embeddings == context
    assert (model.is_gemma3, model.tie_word_embeddings, model.rope_scaling_factor) == (True, True, 1.0)
    extras = (10_000.0, 30.0) if name == "90m" else (1_000_000.0, None)
    assert (model.rope_theta, model.final_logit_softcapping) == extras


@pytest.mark.parametrize("name", PRESETS)
def test_preset_can_be_trained_as_it_is(name: str) -> None:
    preset = PRESETS[name]
    train = TrainConfig(**preset.train)
    assert train.sequence_length <= min(1024, preset.model.max_position_embeddings)
    assert train.micro_batch_size == "auto"
    assert train.warmup_steps < train.steps
    assert {"steps", "batch_size", "sequence_length", "learning_rate", "warmup_steps"} <= set(preset.train)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_its_config_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "shape.json"
    path.write_text(json.dumps(PRESETS[name].model.to_json()))
    found = find_preset(str(path))
    assert (found.name, found.model) == ("shape", PRESETS[name].model)
    assert TrainConfig(**found.train).sequence_length == min(512, found.model.max_position_embeddings)


def test_misspelt_preset_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match='unknown preset "270n"') as raised:
        find_preset("270n")
    assert raised.value.hint == "did you mean 270m?"


def test_unknown_preset_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match='unknown preset "llama"') as raised:
        find_preset("llama")
    assert raised.value.hint == "one of nano, 15m, 90m, 270m, 1b, or a config.json"


@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000 + "a", "a\0b", ""])
def test_name_that_no_file_can_have_is_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="unknown preset"):
        find_preset(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"Once upon a time", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b'"nano"', "does not hold a JSON object")],
)
def test_preset_file_that_is_no_config_is_answered_with_what_is_one(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f'"{path}" {said}') as raised:
        find_preset(str(path))
    assert raised.value.hint == "one of nano, 15m, 90m, 270m, 1b, or a config.json"


def test_missing_preset_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as raised:
        find_preset(str(tmp_path / "shape.json"))
    assert raised.value.hint
