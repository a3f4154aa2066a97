"""Grouped-query attention (arXiv 2305.13245): sliding or global, QK-norm or soft-cap."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmazero.config import ModelConfig
from gemmazero.model.cache import LayerCache
from gemmazero.model.norm import RMSNorm
from gemmazero.model.rope import Rotation


class Attention(nn.Module):
    """(B, T, D) → (B, T, D): every query looks at the keys that its mask shows it."""

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

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        """``mask``: (T, S) or (B, 1, T, S), true where a query may look; None where it may look everywhere."""
        queries, keys, values = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, T, K)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.has_qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = rotation(queries), rotation(keys)
        if cache is not None:
            keys, values = cache.append(keys, values)
        seen = attend(queries * self.scale, keys, values, mask, self.softcap)
        output: Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return output


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, softcap: float | None) -> Tensor:
    """softmax(cap · tanh(q·k / cap)) · v, the softmax in float32.

    Args:
        queries: (B, H, T, K), already scaled.
        keys, values: (B, G, S, K); H/G queries share a key.
        mask: broadcastable to (B, 1, T, S), true where a query may look.
        softcap: Gemma 2's bound on the scores; None for Gemma 3.

    Returns:
        (B, H, T, K)
    """
    if softcap is None and queries.is_cuda:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0, enable_gqa=True)
    batch, heads, time, head_dim = queries.shape
    groups = keys.shape[1]
    together = queries.reshape(batch, groups, -1, head_dim)  # a group's queries in one matrix product
    scores = (together @ keys.transpose(-1, -2)).view(batch, heads, time, -1)
    if softcap is not None:
        scores = softcap * torch.tanh(scores.float() / softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return (weights.view(batch, groups, -1, scores.shape[-1]) @ values).view(queries.shape)


def visible(
    queries: Tensor, keys: Tensor, window: int | None, padding: Tensor | None, documents: Tensor | None = None
) -> Tensor:
    """Which keys each query may look at: those up to itself, ``window`` of them at most, none of the padding.

    Args:
        queries: (T) positions.
        keys: (S) positions.
        window: positions a query sees, itself included; None sees all.
        padding: (B) how many positions each row was padded with on the left.
        documents: (B, T) which document each position belongs to, where a query sees its own alone; then S is T.

    Returns:
        bool, (T, S), or (B, 1, T, S) where there is padding, or there are documents.
    """
    distance = queries[:, None] - keys
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    if padding is not None:
        real = keys >= padding[:, None]  # (B, S)
        seen = seen & real[:, None, None, :] | (distance == 0)  # padding sees itself: a softmax over nothing is NaN
    if documents is not None:
        seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    return seen


def positions_within(documents: Tensor) -> Tensor:
    """(B, T) → int64 (B, T): each token's place in its document, 0 for the first; the documents' numbers never fall."""
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return places - (places * begins).cummax(dim=1).values
