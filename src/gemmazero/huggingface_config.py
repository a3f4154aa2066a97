"""A Gemma's settings ⇄ transformers' ``config.json``; what is ambiguous there is refused, never guessed."""

import json
from collections.abc import Mapping
from typing import Any

from gemmazero.errors import ConfigError


def config_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` for ``ModelConfig``'s fields: transformers 4.57 and 5 read it alike.

    RoPE is written in both spellings: 4.57 ignores ``rope_parameters``, in silence.
    """
    config = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    factor, rope = config.pop("rope_scaling_factor"), {"rope_type": "default"}
    if factor != 1.0:
        rope = config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    if settings["model_type"] == "gemma3_text":
        config["architectures"] = ["Gemma3ForCausalLM"]
        config["rope_parameters"] = {
            "full_attention": rope | {"rope_theta": config["rope_theta"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]},
        }
    else:
        config["architectures"] = ["Gemma2ForCausalLM"]
        config["rope_parameters"] = rope | {"rope_theta": config["rope_theta"]}
        del config["rope_local_base_freq"]
    return config | {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``ModelConfig``: of a Gemma 2 or 3 text model, or of the text part of a multimodal Gemma 3.

    Missing keys take transformers' defaults. Where a key would make ``Gemma`` compute something else than transformers
    does, or two versions of transformers something else than each other, ConfigError is raised.
    """
    config = _text_part(config)
    model_type = config.get("model_type")
    if model_type not in _DEFAULTS:
        raise ConfigError(
            f'model_type "{model_type}" is not a Gemma 2 or Gemma 3 text model', f"one of {', '.join(_DEFAULTS)}"
        )
    config = _DEFAULTS[model_type] | dict(config)
    for key, only in _COMPUTED.items():
        if config.get(key) not in (only, None):
            raise ConfigError(f'{key} "{config[key]}" is not supported', f"only {json.dumps(only)} is")
    settings = {key: config[key] for key in _COPIED if key in config}
    if isinstance(settings["eos_token_id"], list):
        settings["eos_token_id"] = tuple(settings["eos_token_id"])
    return settings | _rope(config) | {"layer_types": _layer_types(config)}


_COPIED = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "sliding_window", "max_position_embeddings",
    "rms_norm_eps", "attn_logit_softcapping", "final_logit_softcapping", "tie_word_embeddings", "initializer_range",
    "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip

_MOST_LAYERS = 1000

_COMPUTED = {
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_bidirectional_attention": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}

_DEFAULTS: dict[str, dict[str, Any]] = {  # of transformers 5.23's Gemma3TextConfig and Gemma2Config
    "gemma3_text": {
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "max_position_embeddings": 131_072,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    },
    "gemma2": {
        "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
    },
}  # fmt: skip


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``text_config`` of a multimodal model, with what the wrapper says of token ids and the tied head."""
    if "text_config" not in config:
        return config
    text = config["text_config"]
    if config.get("model_type") != "gemma3" or not isinstance(text, dict):
        raise ConfigError(f'the text part of model_type "{config.get("model_type")}" is not read', "only gemma3's is")
    outer = {
        key: config[key] for key in ("pad_token_id", "bos_token_id", "eos_token_id") if config.get(key) is not None
    }
    tied = _agreed("tie_word_embeddings", config.get("tie_word_embeddings"), text.get("tie_word_embeddings"), True)
    return {"model_type": "gemma3_text"} | text | outer | {"tie_word_embeddings": tied}


def _layer_types(config: Mapping[str, Any]) -> tuple[str, ...]:
    """``layer_types`` as they stand; without them, every sixth (Gemma 3) or second (Gemma 2) layer is global."""
    listed, layers = config.get("layer_types"), config["num_hidden_layers"]
    if type(layers) is int and layers > _MOST_LAYERS:
        raise ConfigError(f"num_hidden_layers must be at most {_MOST_LAYERS}")
    if listed is not None:
        if not isinstance(listed, list):
            raise ConfigError(f'layer_types must be a list, not "{listed}"')
        return tuple(listed)
    read, default = ("sliding_window_pattern", 6) if config["model_type"] == "gemma3_text" else (None, 2)
    every = config.get(read, default) if read else default
    for key in {"sliding_window_pattern", "_sliding_window_pattern"} - {read}:
        if config.get(key, every) != every:
            raise ConfigError(f'{key} "{config[key]}": transformers ignores it here', "write layer_types instead")
    if type(every) is not int or every < 1 or type(layers) is not int:
        raise ConfigError("sliding_window_pattern and num_hidden_layers must be positive whole numbers")
    return tuple("sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers))


def _rope(config: Mapping[str, Any]) -> dict[str, float]:
    """Bases and linear scaling from either spelling: transformers 5's ``rope_parameters``, or the older flat keys."""
    parameters, scaling = _object("rope_parameters", config), _object("rope_scaling", config)
    if config["model_type"] == "gemma2":
        theta = _theta("rope_theta", parameters, config, 10_000.0)
        return {"rope_theta": theta, "rope_scaling_factor": _scaling_factor(parameters, scaling)}
    if set(parameters) - {"full_attention", "sliding_attention"}:
        raise ConfigError("rope_parameters of Gemma 3 must be nested by layer type: transformers drops all else")
    full, sliding = _object("full_attention", parameters), _object("sliding_attention", parameters)
    if _scaling_factor(sliding, {}) != 1.0:
        raise ConfigError("RoPE scaling on sliding layers is not supported", "scale full_attention alone")
    return {
        "rope_theta": _theta("rope_theta", full, config, 1_000_000.0),
        "rope_local_base_freq": _theta("rope_local_base_freq", sliding, config, 10_000.0),
        "rope_scaling_factor": _scaling_factor(full, scaling),
    }


def _object(key: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object under ``key``; an empty one where there is none."""
    found = config.get(key)
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f'{key} must be an object, not "{found}"')
    return found or {}


def _theta(flat: str, nested: Mapping[str, Any], config: Mapping[str, Any], default: float) -> Any:
    return _agreed(flat, nested.get("rope_theta"), config.get(flat), default)


def _scaling_factor(*spellings: Mapping[str, Any]) -> Any:
    """By how much positions are divided: what every spelling that says so agrees on."""
    factors = []
    for rope in spellings:
        if set(rope) - {"type", "rope_type", "factor", "rope_theta"}:
            raise ConfigError(
                f'RoPE parameters "{rope}" are not supported', "only rope_type, factor and rope_theta are"
            )
        if "type" in rope and rope.get("rope_type") != rope["type"]:
            raise ConfigError('RoPE scaling under the old key "type", which transformers drops', 'name it "rope_type"')
        kind = rope.get("rope_type")
        if kind not in (None, "default", "linear") or (kind == "linear") != ("factor" in rope):
            raise ConfigError(f'RoPE parameters "{rope}" are not supported', '"default", or "linear" with a factor')
        factors.append({None: None, "default": 1.0}.get(kind, rope.get("factor")))
    return _agreed("RoPE's scaling factor", *factors, 1.0)


def _agreed(name: str, *given: Any) -> Any:
    """What all that is given agrees on; the last of ``given`` is the default."""
    *values, default = given
    said = [value for value in values if value is not None]
    if any(value != said[0] for value in said):
        raise ConfigError(f"{name} is given twice, as {' and as '.join(f'{value}' for value in said)}", "remove one")
    return said[0] if said else default
