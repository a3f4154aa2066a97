"""Grouped-query attention (arXiv 2305.13245): sliding or global, QK-norm or soft-cap."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmazero.config import ModelConfig
from gemmazero.model.cache import LayerMemory
from gemmazero.model.norm import RMSNorm
from gemmazero.model.rope import Rotation
from gemmazero.model.sight import Sight, in_blocks, with_block_before
from gemmazero.model.tiles import attend_in_tiles


class Attention(nn.Module):
    """(B, T, D) → (B, T, D): every query looks at the keys that it sees."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.scale = config.query_pre_attn_scalar**-0.5
        self.softcap = config.attn_logit_softcapping
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        if config.is_gemma3:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.has_qk_norm = config.is_gemma3

    def forward(self, x: Tensor, rotation: Rotation, sight: Sight, cache: LayerMemory | None) -> Tensor:
        """With a cache, what is seen may lie in it."""
        queries, keys, values = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, K)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.has_qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = rotation(queries), rotation(keys)
        if cache is not None:
            keys, values = cache.append(keys, values)
        seen = attend(queries * self.scale, keys, values, sight, self.softcap)
        output: Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return output


def attend(queries: Tensor, keys: Tensor, values: Tensor, sight: Sight, softcap: float | None) -> Tensor:
    """softmax(cap · tanh(q·k / cap)) · v, the softmax in float32.

    Args:
        queries: (B, H, T, K), already scaled.
        keys, values: (B, G, S, K); H/G queries share a key.
        sight: which keys each query sees.
        softcap: Gemma 2's bound on the scores; None for Gemma 3.

    Returns:
        (B, H, T, K)
    """
    if sight.tiles is not None:
        return attend_in_tiles(queries, keys, values, sight.tiles, softcap)
    if sight.block is not None:
        return _attend_in_blocks(queries, keys, values, sight, softcap)
    if softcap is None and queries.is_cuda and queries.shape[2] > 1:
        return _attend_fused(queries, keys, values, sight)
    batch, heads, time, head_dim = queries.shape
    groups = keys.shape[1]
    together = queries.reshape(batch, groups, -1, head_dim)  # a group's queries in one matrix product
    scores = (together @ keys.transpose(-1, -2)).view(batch, heads, time, -1)
    if softcap is not None:
        scores = softcap * torch.tanh(scores.float() / softcap)
    if sight.mask is not None:
        unseen = torch.zeros_like(sight.mask, dtype=scores.dtype)
        unseen.masked_fill_(~sight.mask, torch.finfo(scores.dtype).min)
        scores += unseen  # the same numbers as by masked_fill, whose backward pass goes over all scores again
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return (weights.view(batch, groups, -1, scores.shape[-1]) @ values).view(queries.shape)


def _attend_in_blocks(queries: Tensor, keys: Tensor, values: Tensor, sight: Sight, softcap: float | None) -> Tensor:
    """N blocks of queries as N rows of the batch, each with its own keys."""
    assert sight.block is not None
    batch, _, time, _ = queries.shape
    blocks = in_blocks(queries, sight.block).transpose(1, 2).flatten(0, 1)  # (B·N, H, W, K)
    seen_keys, seen_values = (
        with_block_before(in_blocks(x, sight.block)).transpose(1, 2).flatten(0, 1)  # (B·N, G, 2W, K)
        for x in (keys, values)
    )
    seen = attend(blocks, seen_keys, seen_values, Sight(sight.mask), softcap)
    return seen.view(batch, -1, *seen.shape[1:]).transpose(1, 2).flatten(2, 3)[:, :, :time]


def _attend_fused(queries: Tensor, keys: Tensor, values: Tensor, sight: Sight) -> Tensor:
    """By torch's kernels: flash attention, or the one that takes masks, float32 and older cards, but a key a query."""
    keys, values = (x.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1) for x in (keys, values))
    mask = None if sight.is_causal else sight.mask
    return F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=sight.is_causal, scale=1.0)
