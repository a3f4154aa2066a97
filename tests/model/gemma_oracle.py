"""Tiny random Gemmas, and transformers' models of the same config and weights to hold them against."""

import json
from typing import Any

import torch
import transformers
from torch import Tensor

from gemmazero.config import ModelConfig
from gemmazero.model.gemma import Gemma

SLIDING, FULL = "sliding_attention", "full_attention"

SHAPES: dict[str, dict[str, Any]] = {
    "gemma3": {},
    "gemma3 final cap": {"final_logit_softcapping": 3.0},
    "gemma3 scaled rope": {"rope_scaling_factor": 8.0},
    "gemma3 other bases": {"rope_theta": 5_000.0, "rope_local_base_freq": 300.0},
    "gemma3 all sliding": {"layer_types": (SLIDING,) * 4},
    "gemma3 all full": {"layer_types": (FULL,) * 4},
    "gemma3 irregular": {"layer_types": (FULL, SLIDING, SLIDING, FULL)},
    "gemma3 untied": {"tie_word_embeddings": False},
    "gemma3 groups of one": {"num_key_value_heads": 4},
    "gemma3 groups of four": {"num_key_value_heads": 1},
    "gemma3 odd sizes": {
        "vocab_size": 101, "hidden_size": 45, "intermediate_size": 33, "num_attention_heads": 3,
        "num_key_value_heads": 1, "head_dim": 14, "query_pre_attn_scalar": 15,
    },
    "gemma3 window of one": {"sliding_window": 1},
    "gemma3 window beyond the text": {"sliding_window": 64},
    "gemma3 large eps": {"rms_norm_eps": 0.01},
    "gemma2": {"model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "gemma2 tight caps": {"model_type": "gemma2", "attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0},
    "gemma2 no caps": {"model_type": "gemma2"},
    "gemma2 scaled rope": {"model_type": "gemma2", "rope_scaling_factor": 2.0, "rope_theta": 10_000.0},
    "gemma2 untied, groups of four": {
        "model_type": "gemma2", "tie_word_embeddings": False, "num_key_value_heads": 1, "attn_logit_softcapping": 1.0,
    },
    "gemma2 irregular": {"model_type": "gemma2", "layer_types": (FULL, FULL, SLIDING, FULL)},
}  # fmt: skip


def tiny_config(**changes: Any) -> ModelConfig:
    """Four layers of width 48, window 5; scores are not scaled by the head's size."""
    shape: dict[str, Any] = {
        "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 24,
        "layer_types": (SLIDING, FULL, SLIDING, FULL), "sliding_window": 5, "max_position_embeddings": 1024,
        "initializer_range": 0.15,
    }  # fmt: skip
    return ModelConfig(**(shape | changes))


def random_gemma(config: ModelConfig, seed: int = 0) -> Gemma:
    """No weight is at a value that hides a mistake: norm weights are random too."""
    generator = torch.Generator().manual_seed(seed)
    model = Gemma(config)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model


def random_ids(config: ModelConfig, batch: int, time: int, seed: int = 1) -> Tensor:
    return torch.randint(config.vocab_size, (batch, time), generator=torch.Generator().manual_seed(seed))


def transformers_twin(model: Gemma) -> Any:
    """transformers' model, built from our ``config.json`` and given our weights, in eager float32."""
    record = json.loads(json.dumps(model.config.to_json()))
    kind = {"gemma3_text": "Gemma3", "gemma2": "Gemma2"}[model.config.model_type]
    config_class = transformers.Gemma3TextConfig if kind == "Gemma3" else transformers.Gemma2Config
    twin = getattr(transformers, f"{kind}ForCausalLM")(config_class.from_dict(record))
    twin.set_attn_implementation("eager")
    result = twin.load_state_dict(model.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == (["lm_head.weight"] if model.config.tie_word_embeddings else [])
    return twin.eval()
