"""Model configs that ask for the absurd."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile.case import Case, Spoil, made_by
from hostile.json_cases import set_to, to_values, without

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "sliding_window", "max_position_embeddings",
)  # fmt: skip
_OF_WEIGHTS = _SIZES[:7]  # what the shapes of the weights depend on
_NO_SIZES: dict[str, Any] = {
    "0": 0, "-1": -1, "2^40": 2**40, "10^4000": 10**4000, "1.5": 1.5, "a text": "64", "true": True, "null": None,
    "a list": [64], "an object": {"size": 64},
}  # fmt: skip
_NO_FLOATS: dict[str, Any] = {
    "0": 0, "-1": -1.0, "1e308": 1e308, "1e-308": 1e-308, "10^4000": 10**4000, "a text": "1e6", "a list": [1.0],
}  # fmt: skip


def layers(count: int) -> Spoil:
    return to_values(lambda record: record.update(num_hidden_layers=count, layer_types=["full_attention"] * count))


def untied(file: Path) -> None:
    set_to("tie_word_embeddings", to=False)(file)


def larger(file: Path) -> None:
    """A consistent config of a model of 4 trillion parameters."""
    record = json.loads(file.read_bytes())
    record |= {"vocab_size": 2**24, "hidden_size": 2**16, "intermediate_size": 2**24, "num_attention_heads": 2**8}
    file.write_text(json.dumps(record | {"num_key_value_heads": 1, "head_dim": 2**14}))


CONFIGS: dict[str, Spoil] = {
    **{f"{key} is {name}": set_to(key, to=value) for key in _SIZES for name, value in _NO_SIZES.items()},
    **{f"{key} is {name}": set_to(key, to=value)
       for key in ("rms_norm_eps", "rope_theta", "final_logit_softcapping") for name, value in _NO_FLOATS.items()},
    **{f"{key} is 2^24": set_to(key, to=2**24) for key in _OF_WEIGHTS},
    "a thousand layers": layers(1000),
    "a million layers": made_by(lambda: layers(1_000_000)),
    "layers without their types": without("layer_types"),
    "a million layer types": made_by(lambda: set_to("layer_types", to=["full_attention"] * 1_000_000)),
    "layer types of lists": set_to("layer_types", to=[["full_attention"]] * 2),
    "layer types that are a text": set_to("layer_types", to="full_attention"),
    "four trillion parameters": larger,
    "no model type": without("model_type"),
    "a model type that is a list": set_to("model_type", to=["gemma3_text"]),
    "a model type that is an object": set_to("model_type", to={"gemma3_text": 1}),
    "a model type of a hundred thousand characters": set_to("model_type", to="x" * 100_000),
    "a model type that moves the cursor": set_to("model_type", to="\x1b[2J\x1b]0;owned\x07\r\n\u202e"),
    "a text part that is a list": set_to("text_config", to=[]),
    "a text part within a text part": set_to("text_config", to={"text_config": {"text_config": {}}}),
    "rope parameters that are a list": set_to("rope_parameters", to=[1]),
    "rope parameters within rope parameters": set_to("rope_parameters", to={"full_attention": {"full_attention": {}}}),
    "rope scaling by a text": set_to("rope_scaling", to={"rope_type": "linear", "factor": "8"}),
    "rope scaling by nothing": set_to("rope_scaling", to={"rope_type": "linear", "factor": 0}),
    "a rope type that is a list": set_to("rope_scaling", to={"rope_type": ["linear"], "factor": 8}),
    "an untied head that is not there": untied,
    "tied by a number": set_to("tie_word_embeddings", to=1),
    "quantized": set_to("quantization_config", to={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "an end that is an object": set_to("eos_token_id", to={"id": 1}),
    "ends that are texts": set_to("eos_token_id", to=["1"]),
    "padding beyond the vocabulary": set_to("pad_token_id", to=10**9),
}  # fmt: skip

HARMLESS: dict[str, Spoil] = {
    "code from the repository": set_to(
        "auto_map", to={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    ),
    "a quarter of a million ends": made_by(lambda: set_to("eos_token_id", to=list(range(250_000)))),
    "a context of 2^24": set_to("max_position_embeddings", to=2**24),
    "a window of 2^24": set_to("sliding_window", to=2**24),
    "an end beyond the vocabulary": set_to("eos_token_id", to=10**9),
}
_TRAINED = ("four trillion parameters", "layers without their types", "an untied head that is not there")


def config_cases() -> Iterator[Case]:
    for name, spoil in CONFIGS.items():
        # Two layers without their types slide both, and no shape tells; how far a query sees is not in the weights.
        yield Case(name, "model", "config.json", "load", spoil, is_harmless=name == "layers without their types")
    for name, spoil in HARMLESS.items():
        yield Case(name, "model", "config.json", "load", spoil, is_harmless=True)
        yield Case(name, "model", "config.json", "convert", spoil, is_harmless=True)
    for name in _TRAINED:  # a new model may be of any shape that there is memory for
        yield Case(name, "settings", "tiny.json", "train_a_preset", CONFIGS[name], is_harmless=name != _TRAINED[0])
