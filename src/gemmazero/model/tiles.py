"""Attention in tiles, by FlexAttention (arXiv 2412.05496): a compiled kernel goes past the tiles that nobody sees."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

TILE = 128  # queries by as many keys: FlexAttention's own size, which its kernels divide
_LARGE_HEAD = 128  # beyond it the gradients of a tile's keys and values do not fit into the registers of 4 warps


def tiles(time: int, window: int | None, documents: Tensor | None, device: torch.device) -> BlockMask:
    """Which tiles of T queries by T keys hold something that is seen, and which nothing else.

    Args:
        time: T.
        window: positions a query sees, itself included; None sees all up to itself.
        documents: (B, T) which document each position belongs to, where a query sees its own alone; they never fall.
        device: where the queries are.
    """
    return _tiles(time, window, documents, device) if documents is not None else _same_for_all(time, window, device)


def attend_in_tiles(queries: Tensor, keys: Tensor, values: Tensor, seen: BlockMask, softcap: float | None) -> Tensor:
    """``attend``, for queries at all positions from 0 on: O(T · W) where it is compiled, and only there."""

    def capped(score: Tensor, _row: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    score_mod = None if softcap is None else capped
    is_large = queries.shape[-1] > _LARGE_HEAD and queries.dtype != torch.float32
    options: Any = {"bwd_num_warps": 8} if is_large else None  # torch's type knows of num_warps alone
    result = flex_attention(queries, keys, values, score_mod, seen, scale=1.0, enable_gqa=True, kernel_options=options)
    assert isinstance(result, Tensor)
    return result


@lru_cache(maxsize=8)
def _same_for_all(time: int, window: int | None, device: torch.device) -> BlockMask:
    return _tiles(time, window, None, device)


def _tiles(time: int, window: int | None, documents: Tensor | None, device: torch.device) -> BlockMask:
    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= key
        if window is not None:
            seen = seen & (query - key < window)
        if documents is not None:
            seen = seen & (documents[row, query] == documents[row, key])
        return seen

    first = torch.arange(0, time, TILE, device=device)
    last = (first + TILE - 1).clamp(max=time - 1)
    least, most = first[:, None] - last, last[:, None] - first  # how far a tile's queries are from its keys
    some, every = most >= 0, least >= 0
    if window is not None:
        some, every = some & (least < window), every & (most < window)
    every &= (first + TILE <= time)[:, None]  # of whole tiles alone may no single score be asked for
    some, every = some[None], every[None]
    if documents is not None:
        begun, ended = documents[:, first], documents[:, last]
        some = some & (begun[:, :, None] <= ended[:, None])
        every = every & (ended[:, :, None] == begun[:, None])
    partial = some & ~every  # BlockMask.from_kv_blocks makes the same of these in four times the time
    keys, whole_keys = _listed(partial), _listed(every)
    queries, whole_queries = _listed(partial.mT), _listed(every.mT)
    return BlockMask(
        seq_lengths=(time, time),
        kv_num_blocks=keys[0], kv_indices=keys[1], full_kv_num_blocks=whole_keys[0], full_kv_indices=whole_keys[1],
        q_num_blocks=queries[0], q_indices=queries[1],
        full_q_num_blocks=whole_queries[0], full_q_indices=whole_queries[1],
        BLOCK_SIZE=(TILE, TILE),
        mask_mod=sees,
    )  # fmt: skip


def _listed(which: Tensor) -> tuple[Tensor, Tensor]:
    """bool (B, N, N) → for each row of tiles how many are meant, int32 (B, 1, N), and those first, (B, 1, N, N)."""
    order = which.int().contiguous().argsort(dim=-1, descending=True, stable=True)
    return which.sum(dim=-1, dtype=torch.int32)[:, None], order.int()[:, None]
