import json
import random
from dataclasses import replace
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.config import ModelConfig
from gemmazero.errors import ConfigError
from hostile.mutation import changed_value

GEMMA3 = ModelConfig(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=7, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=24, layer_types=("sliding_attention",) * 7,
    sliding_window=5, max_position_embeddings=128,
)  # fmt: skip
GEMMA2 = replace(GEMMA3, model_type="gemma2", rope_theta=10_000.0)
FULL, SLIDING = "full_attention", "sliding_attention"

CONFIGS = {
    "gemma3": GEMMA3,
    "gemma3 everything": replace(
        GEMMA3, rope_theta=5e5, rope_local_base_freq=300.0, rope_scaling_factor=8.0, rms_norm_eps=1e-5,
        final_logit_softcapping=30.0, tie_word_embeddings=False, initializer_range=0.1, pad_token_id=3, bos_token_id=4,
        eos_token_id=(5, 6), layer_types=(FULL, SLIDING, FULL, FULL, SLIDING, SLIDING, FULL),
    ),
    "gemma2": GEMMA2,
    "gemma2 everything": replace(
        GEMMA2, rope_theta=5e5, rope_scaling_factor=2.0, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        tie_word_embeddings=False, eos_token_id=5, layer_types=(FULL, SLIDING, FULL, FULL, SLIDING, SLIDING, FULL),
    ),
}  # fmt: skip


def flat(config: ModelConfig, **changes: Any) -> dict[str, Any]:
    """Its ``config.json`` as transformers 4 wrote it; a change to None removes a key."""
    record = config.to_json()
    del record["rope_parameters"]
    return {key: value for key, value in (record | changes).items() if key not in changes or value is not None}


def nested(config: ModelConfig, **changes: Any) -> dict[str, Any]:
    """Its ``config.json`` as transformers 5 writes it."""
    record = config.to_json()
    for key in ("rope_theta", "rope_local_base_freq", "rope_scaling"):
        record.pop(key, None)
    return {key: value for key, value in (record | changes).items() if key not in changes or value is not None}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("spell", [ModelConfig.to_json, flat, nested], ids=["both", "flat", "nested"])
def test_reading_inverts_writing_in_either_spelling(name: str, spell: Any) -> None:
    config = CONFIGS[name]
    assert ModelConfig.from_json(json.loads(json.dumps(spell(config)))) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_what_transformers_writes_is_read_as_it_was(name: str) -> None:
    config = CONFIGS[name]
    kind = transformers.Gemma3TextConfig if config.is_gemma3 else transformers.Gemma2Config
    theirs = kind.from_dict(json.loads(json.dumps(config.to_json())))
    assert ModelConfig.from_json(json.loads(theirs.to_json_string(use_diff=False))) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_understands_every_field(name: str) -> None:
    config = CONFIGS[name]
    kind = transformers.Gemma3TextConfig if config.is_gemma3 else transformers.Gemma2Config
    theirs = kind.from_dict(config.to_json())
    for field in (
        "vocab_size", "hidden_size", "head_dim", "query_pre_attn_scalar", "sliding_window", "rms_norm_eps",
        "final_logit_softcapping", "attn_logit_softcapping", "tie_word_embeddings", "pad_token_id",
    ):  # fmt: skip
        assert getattr(theirs, field) == getattr(config, field), field
    assert tuple(theirs.layer_types) == config.layer_types
    full = theirs.rope_parameters["full_attention"] if config.is_gemma3 else theirs.rope_parameters
    assert full["rope_theta"] == config.rope_theta
    assert full.get("factor", 1.0) == config.rope_scaling_factor
    if config.is_gemma3:
        assert theirs.rope_parameters["sliding_attention"] == {
            "rope_type": "default",
            "rope_theta": config.rope_local_base_freq,
        }


@pytest.mark.parametrize(
    ("model_type", "defaults"), [("gemma3_text", transformers.Gemma3TextConfig), ("gemma2", transformers.Gemma2Config)]
)
def test_missing_keys_take_the_defaults_of_transformers(model_type: str, defaults: Any) -> None:
    theirs = json.loads(defaults().to_json_string(use_diff=False))
    assert ModelConfig.from_json({"model_type": model_type}) == ModelConfig.from_json(theirs)


def test_text_part_of_a_multimodal_config_is_read() -> None:
    wrapped = {"model_type": "gemma3", "text_config": flat(GEMMA3, model_type=None), "vision_config": {}}
    assert ModelConfig.from_json(wrapped) == GEMMA3


def test_multimodal_config_says_where_text_ends() -> None:
    wrapped = {"model_type": "gemma3", "text_config": {"hidden_size": 2560}, "eos_token_id": [1, 106]}
    config = ModelConfig.from_json(wrapped)
    assert (config.eos_token_id, config.hidden_size, config.vocab_size) == ((1, 106), 2560, 262_208)


def test_what_transformers_writes_for_a_multimodal_model_is_read() -> None:
    theirs = transformers.Gemma3Config(text_config=GEMMA3.to_json())
    assert ModelConfig.from_json(json.loads(theirs.to_json_string(use_diff=False))) == GEMMA3


@pytest.mark.parametrize(
    ("pattern", "expected"), [(None, "sssssfs"), (6, "sssssfs"), (3, "ssfssfs"), (1, "fffffff"), (9, "sssssss")]
)
def test_pattern_makes_every_so_manyth_layer_global(pattern: int | None, expected: str) -> None:
    record = flat(GEMMA3, layer_types=None) | ({} if pattern is None else {"sliding_window_pattern": pattern})
    config = ModelConfig.from_json(record)
    assert "".join(kind[0] for kind in config.layer_types) == expected
    assert list(config.layer_types) == transformers.Gemma3TextConfig.from_dict(record).layer_types


def test_layers_of_gemma2_alternate_and_the_first_slides() -> None:
    config = ModelConfig.from_json(flat(GEMMA2, layer_types=None))
    assert "".join(kind[0] for kind in config.layer_types) == "sfsfsfs"


def test_listed_layer_types_win_over_a_pattern() -> None:
    assert ModelConfig.from_json(flat(GEMMA3, sliding_window_pattern=2)).layer_types == GEMMA3.layer_types


def test_thetas_may_stand_outside_nested_parameters() -> None:
    record = flat(GEMMA3, rope_theta=5e5, rope_parameters={FULL: {"rope_type": "linear", "factor": 8.0}, SLIDING: None})
    assert ModelConfig.from_json(record) == replace(GEMMA3, rope_theta=5e5, rope_scaling_factor=8.0)


def test_scaling_under_both_its_names_is_read() -> None:
    record = flat(GEMMA3, rope_scaling={"type": "linear", "rope_type": "linear", "factor": 8})
    assert ModelConfig.from_json(record) == replace(GEMMA3, rope_scaling_factor=8.0)


LINEAR = {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (flat(GEMMA3, model_type="llama"), '"llama" is not a Gemma 2 or Gemma 3 text model'),
        (flat(GEMMA3, model_type=None), '"None" is not a Gemma'),
        ({"model_type": "paligemma", "text_config": flat(GEMMA2)}, 'text part of model_type "paligemma"'),
        ({"model_type": "gemma3", "text_config": None}, 'text part of model_type "gemma3"'),
        (
            {"model_type": "gemma3", "tie_word_embeddings": False, "text_config": flat(GEMMA3)},
            "tie_word_embeddings is given twice",
        ),
        (flat(GEMMA3, hidden_activation="gelu"), 'hidden_activation "gelu" is not supported'),
        (flat(GEMMA3, attention_bias=True), 'attention_bias "True" is not supported'),
        (flat(GEMMA3, attention_dropout=0.1), "attention_dropout"),
        (flat(GEMMA3, use_bidirectional_attention=True), "use_bidirectional_attention"),
        (flat(GEMMA3, partial_rotary_factor=0.5), "partial_rotary_factor"),
        (flat(GEMMA3, quantization_config={"bits": 4}), "quantization_config"),
        (flat(GEMMA3, attn_logit_softcapping=50.0), "attn_logit_softcapping on Gemma 3"),
        (flat(GEMMA3) | {"sliding_window": None}, "sliding_window must be a positive whole number"),
        (flat(GEMMA3, query_pre_attn_scalar=24.5), "query_pre_attn_scalar must be a positive whole number"),
        (flat(GEMMA3, vocab_size="97"), "vocab_size must be a positive whole number"),
        (flat(GEMMA3, layer_types="full_attention"), "layer_types must be a list"),
        (flat(GEMMA3, layer_types=[["full_attention"]] * 7), "unknown layer type"),
        (flat(GEMMA3, layer_types=None, _sliding_window_pattern=3), '_sliding_window_pattern "3"'),
        (flat(GEMMA2, layer_types=None, sliding_window_pattern=3), 'sliding_window_pattern "3": transformers'),
        (flat(GEMMA3, layer_types=None, sliding_window_pattern=0), "must be positive whole numbers"),
        (flat(GEMMA3, rope_scaling={"type": "linear", "factor": 8.0}), 'old key "type"'),
        (flat(GEMMA3, rope_scaling={"rope_type": "yarn", "factor": 8.0}), "yarn"),
        (flat(GEMMA3, rope_scaling={"rope_type": "linear"}), "{'rope_type': 'linear'}"),
        (flat(GEMMA3, rope_scaling={"rope_type": "default", "factor": 8.0}), "{'rope_type': 'default', 'factor'"),
        (flat(GEMMA3, rope_scaling={**LINEAR, "beta_fast": 32}), "beta_fast"),
        (flat(GEMMA3, rope_scaling=8.0), "8.0"),
        (flat(GEMMA3, rope_parameters=LINEAR), "must be nested by layer type"),
        (flat(GEMMA3, rope_parameters={SLIDING: LINEAR}), "RoPE scaling on sliding layers"),
        (flat(GEMMA3, rope_parameters={FULL: LINEAR}, rope_scaling={**LINEAR, "factor": 4.0}), "factor is given twice"),
        (flat(GEMMA3, rope_parameters={FULL: {"rope_theta": 5.0}}), "given twice, as 5.0 and as 1000000.0"),
        (flat(GEMMA2, rope_parameters={FULL: LINEAR}), "not supported"),
        (flat(GEMMA3, rope_parameters={FULL: 5}), 'full_attention must be an object, not "5"'),
        (flat(GEMMA3, rope_parameters=0), 'rope_parameters must be an object, not "0"'),
        (flat(GEMMA2, rope_parameters=[1]), 'rope_parameters must be an object, not "[1]"'),
        (flat(GEMMA2, rope_scaling="linear"), 'rope_scaling must be an object, not "linear"'),
        (flat(GEMMA3, layer_types=None, num_hidden_layers=10**30), "num_hidden_layers must be at most 1000"),
        (flat(GEMMA3, layer_types=[FULL] * 1001, num_hidden_layers=1001), "num_hidden_layers must be at most 1000"),
        (flat(GEMMA3, rope_theta=10**400), "rope_theta must be a positive number"),
        (flat(GEMMA3, rope_theta="big"), "rope_theta must be a positive number"),
    ],
)  # fmt: skip
def test_what_would_compute_something_else_is_refused(record: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ModelConfig.from_json(json.loads(json.dumps(record)))
    assert said in raised.value.message


@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 2**32))
def test_any_change_is_a_config_or_a_config_error(name: str, seed: int) -> None:
    chance, record = random.Random(seed), json.loads(json.dumps(CONFIGS[name].to_json()))
    for _ in range(chance.randint(1, 3)):
        record = changed_value(record, chance)
    try:
        config = ModelConfig.from_json(record)
    except ConfigError:
        return
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
