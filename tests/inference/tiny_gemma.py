"""Real Gemmas small enough for a test: random ones, and ones whose next token is known."""

from collections.abc import Sequence
from typing import Any

import torch

from gemmazero.config import ModelConfig, ModelType
from gemmazero.model.gemma import Gemma

WINDOW = 5


def random_gemma(
    vocabulary: int = 97,
    model_type: ModelType = "gemma3_text",
    context: int = 128,
    *,
    width: int = 48,
    tied: bool = False,
) -> Gemma:
    """Random weights, far enough apart that the likeliest token is not a matter of rounding.

    The head is untied but where it is asked for: tied to random embeddings a model repeats its last token for ever.
    """
    caps = {} if model_type == "gemma3_text" else {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    model = Gemma(
        _config(vocabulary, 48, context, model_type=model_type, initializer_range=0.2, tie_word_embeddings=tied, **caps)
    )
    generator = torch.Generator().manual_seed(1)
    model.initialize(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(0, 0.2, generator=generator)
    return model


def spelling_gemma(ids: Sequence[int], vocabulary: int, context: int = 128) -> Gemma:
    """Writes each of ``ids`` after the one before it, and the first after the last; every id occurs once."""
    assert len(set(ids)) == len(ids)
    model = Gemma(_config(vocabulary, vocabulary + vocabulary % 2, context, tie_word_embeddings=False))
    model.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for block in model.model.layers:
            block.post_attention_layernorm.weight.fill_(-1)  # 1 + weight: the block adds nothing
            block.post_feedforward_layernorm.weight.fill_(-1)
        model.model.embed_tokens.weight.copy_(torch.eye(vocabulary, model.config.hidden_size))
        model.lm_head.weight.zero_()
        for before, after in zip(ids, [*ids[1:], ids[0]], strict=True):
            model.lm_head.weight[after, before] = 100.0
    return model


def transformers_twin(model: Gemma) -> Any:
    """transformers' own model with the same weights."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

    values = model.config.to_json()
    if model.config.is_gemma3:
        twin = Gemma3ForCausalLM(Gemma3TextConfig(**values, attn_implementation="eager"))
    else:
        twin = Gemma2ForCausalLM(Gemma2Config(**values, attn_implementation="eager"))
    twin.load_state_dict(model.state_dict(), strict=False)
    return twin.eval()


def _config(vocabulary: int, width: int, context: int, **values: Any) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=24,
        layer_types=("sliding_attention", "full_attention"),
        sliding_window=WINDOW,
        max_position_embeddings=context,
        **values,
    )
