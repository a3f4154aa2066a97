import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gemmazero.config import ModelConfig, PrepareConfig, TrainConfig
from gemmazero.errors import ConfigError, UsageError
from gemmazero.json_file import read_json
from gemmazero.run_config import DataReference, RunConfig

MODEL = ModelConfig(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=24,
    layer_types=("sliding_attention", "full_attention"), sliding_window=5, max_position_embeddings=128,
)  # fmt: skip

RUN = RunConfig(
    run_id="a1b2",
    preset="nano",
    model=MODEL.with_vocabulary(97, 96),
    train=TrainConfig(steps=7, warmup_steps=2, micro_batch_size=8, compile=False),
    data=DataReference(
        folder="data/sample", manifest_digest="ab", tokenizer_digest="cd", source="sample", revision=None,
        options={"tokenizer": "bpe:1024"},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 0}, "vocab_size must be a positive whole number"),
        ({"hidden_size": 48.0}, "hidden_size must be a positive whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a positive whole number"),
        ({"query_pre_attn_scalar": 24.0}, "query_pre_attn_scalar must be a positive whole number"),
        ({"sliding_window": None}, "sliding_window must be a positive whole number"),
        ({"hidden_size": 10**30}, "hidden_size must be a positive whole number up to 16777216"),
        ({"query_pre_attn_scalar": 10**400}, "query_pre_attn_scalar must be a positive whole number up to"),
        ({"sliding_window": 10**30}, "sliding_window must be a positive whole number up to"),
        ({"rope_theta": 10**400}, "rope_theta must be a positive number"),
        ({"rope_theta": 1e300}, "rope_theta must be a positive number that float32 can hold"),
        ({"rms_norm_eps": 1e-300}, "rms_norm_eps must be a positive number that float32 can hold"),
        ({"rope_theta": 0.0}, "rope_theta must be a positive number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number"),
        ({"rope_scaling_factor": "8"}, "rope_scaling_factor must be a positive number"),
        ({"final_logit_softcapping": -30.0}, "final_logit_softcapping must be a positive number"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings must be true or false"),
        ({"pad_token_id": 97}, "pad_token_id 97 is not among 97 token ids"),
        ({"eos_token_id": (1, "2")}, "must be whole numbers"),
        ({"model_type": "llama"}, '"llama" is not gemma3_text or gemma2'),
        ({"layer_types": ("full_attention",)}, "1 layer_types for 2 layers"),
        ({"layer_types": ("full_attention", "chunked")}, 'unknown layer type "chunked"'),
        ({"num_key_value_heads": 3}, "cannot share 3 key-value heads"),
        ({"hidden_size": 50}, "50 is not a multiple of 4 attention heads"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping on Gemma 3"),
        ({"model_type": "gemma2", "rope_local_base_freq": 5.0}, "rope_local_base_freq on Gemma 2"),
    ],
)
def test_shape_that_cannot_be_built_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(MODEL, **changes)


def test_whole_numbers_for_real_ones_make_equal_configs() -> None:
    whole = replace(MODEL, rope_theta=1_000_000, final_logit_softcapping=30)
    assert whole == replace(MODEL, final_logit_softcapping=30.0)
    assert json.dumps(whole.to_json()["final_logit_softcapping"]) == "30.0"  # transformers refuses 30


def test_vocabulary_brings_its_end_id() -> None:
    config = MODEL.with_vocabulary(50_257, 50_256)
    assert (config.vocab_size, config.eos_token_id, config.pad_token_id) == (50_257, 50_256, 50_256)
    assert replace(config, vocab_size=97, eos_token_id=None, pad_token_id=None, bos_token_id=None) == MODEL


def test_config_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MODEL.to_json()))
    assert ModelConfig.read(path) == MODEL


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is not JSON"),
        (b"[1]", "JSON object"),
        (b"\xff", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "cannot read"),
        (b'{"steps": ' + b"1" * 5000 + b"}", "cannot read"),
    ],
)
def test_unreadable_json_is_a_config_error(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as raised:
        read_json(path)
    assert raised.value.hint


def test_byte_order_mark_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"steps": 3}')
    assert read_json(path) == {"steps": 3}


def test_config_that_cannot_be_used_names_the_file_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(MODEL.to_json() | {"head_dim": 15}))
    with pytest.raises(ConfigError, match="head_dim must be even") as raised:
        ModelConfig.read(path)
    assert raised.value.hint == f'mend it in "{path}"'


def test_folder_in_place_of_a_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "--steps must be at least 1, not 0"),
        ({"steps": 1.5}, '--steps must be of type int, not "1.5"'),
        ({"learning_rate": float("inf")}, "--learning-rate must be at most 1e[+]38"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number"),
        ({"learning_rate": 10**400}, "--learning-rate must be at most 1e[+]38"),
        ({"learning_rate": -(10**400)}, "--learning-rate must be at least 0"),
        ({"seed": 2**63}, "--seed must be at most 9223372036854775807"),
        ({"threads": 1025}, "--threads must be at most 1024"),
        ({"batch_size": 10**21}, "--batch-size must be at most 1048576"),
        ({"keep": 10**21}, "--keep must be at most 2147483647"),
        ({"steps": 10**5000}, "--steps must be at most 2147483647"),
        ({"schedule": "linear"}, '--schedule "linear" is unknown'),
        ({"gradient_checkpointing": 1}, "--gradient-checkpointing must be of type bool"),
        ({"min_learning_rate": 1.0, "learning_rate": 0.1}, "--min-learning-rate 1 is above --learning-rate 0.1"),
        ({"beta2": 1.0}, "--beta2 must be below 1"),
        ({"steps": 7, "warmup_steps": 7}, "--warmup-steps 7 is not below --steps 7"),
    ],
)
def test_impossible_training_setting_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        TrainConfig(**changes)
    assert raised.value.hint


def test_largest_settings_are_taken() -> None:
    assert TrainConfig(seed=2**63 - 1, threads=1024, batch_size=2**20).threads == 1024


@pytest.mark.parametrize("name", ["tokenizer", "subset", "revision", "split", "text_column"])
def test_empty_text_is_not_a_setting_left_out(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} must not be empty"):
        PrepareConfig(**{name: ""})


@pytest.mark.parametrize("name", ["tokenizer", "text_column", "subset", "revision", "split", "document_separator"])
def test_text_setting_that_no_manifest_can_hold_is_refused(name: str) -> None:
    assert PrepareConfig(**{name: "é😀"})
    with pytest.raises(UsageError, match=rf'--{name.replace("_", "-")} must be UTF-8, .* not "a\\udcff"'):
        PrepareConfig(**{name: os.fsdecode(b"a\xff")})


def test_text_setting_is_a_text() -> None:
    with pytest.raises(UsageError, match='--tokenizer must be of type str, not "5"'):
        PrepareConfig(tokenizer=5)  # type: ignore[arg-type]


def test_everything_cannot_be_held_out() -> None:
    with pytest.raises(UsageError, match="--validation-fraction must be below 1, not 1"):
        PrepareConfig(validation_fraction=1.0)


def test_run_survives_its_json() -> None:
    record = json.loads(json.dumps(RUN.to_json()))
    assert RunConfig.from_json(record) == RUN
    assert asdict(RunConfig.from_json(record)) == asdict(RUN)


@pytest.mark.parametrize("key", ["run_id", "model", "train", "data"])
def test_run_without_one_of_its_parts_is_refused(key: str) -> None:
    record = RUN.to_json()
    del record[key]
    with pytest.raises(ConfigError, match=key):
        RunConfig.from_json(record)


def test_run_of_another_format_is_refused() -> None:
    with pytest.raises(ConfigError, match='format version "2"'):
        RunConfig.from_json(RUN.to_json() | {"format_version": 2})


def test_run_with_an_unknown_setting_is_refused() -> None:
    record = RUN.to_json()
    record["train"]["dropout"] = 0.1
    with pytest.raises(ConfigError, match="dropout"):
        RunConfig.from_json(record)


@pytest.mark.parametrize("part", [5, [1], None])
def test_run_whose_model_is_no_object_is_refused(part: Any) -> None:
    with pytest.raises(ConfigError, match="unreadable") as raised:
        RunConfig.from_json(RUN.to_json() | {"model": part})
    assert raised.value.hint
