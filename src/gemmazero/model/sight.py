"""Sight: which keys each query sees, and how it looks at them.

On a GPU a plain causal layer takes flash attention. Windows, documents and soft-caps are for tiles, where layers are
compiled and FlexAttention with them (``fuses``). Elsewhere a window much shorter than the text makes blocks of W
queries, each with its own keys and those before; what is left takes a mask.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from gemmazero.model.tiles import TILE, tiles


@dataclass(frozen=True)
class Sight:
    """What one kind of layer looks at.

    Args:
        mask: true where a query may look: (T, S) or (B, 1, T, S), or, in N blocks, (B·N, 1, W, 2W); None where it may
            look everywhere.
        block: W, where queries are taken W at a time, each block with the keys of its own and of the one before: time
            and memory are O(T · W). The last block may go on beyond T.
        is_causal: each query sees all keys up to itself, and there is no more to it; a mask says the same to those who
            need one.
        tiles: in place of all else, for queries at all positions, where blocks are compiled.
    """

    mask: Tensor | None = None
    block: int | None = None
    is_causal: bool = False
    tiles: BlockMask | None = None


def sight(
    queries: Tensor,
    window: int | None,
    padding: Tensor | None,
    documents: Tensor | None,
    *,
    has_cache: bool,
    rows: int,
    is_capped: bool = False,
    fuses: bool = False,
) -> Sight:
    """How queries at the last T positions see all keys so far, or the last ones that their window lets them see.

    Args:
        queries: (T) positions that follow each other, from 0 where there is no cache.
        window: positions a query sees, itself included; None sees all.
        padding: (B) how many positions each row was padded with on the left.
        documents: (B, T) which document each position belongs to, where a query sees its own alone.
        has_cache: there may be keys before the first query.
        rows: B.
        is_capped: scores have a soft-cap, which flash attention does not know.
        fuses: FlexAttention is compiled where it is used, and there is no cache.
    """
    time = len(queries)
    if time == 1 and padding is None:
        return Sight()
    if fuses and time >= TILE and (is_capped or documents is not None or (window is not None and window < time)):
        return Sight(tiles=tiles(time, window, documents, queries.device))
    if window is not None and not has_cache and time > 2 * window:
        return Sight(_banded(time, window, documents, rows, queries.device), window)
    end = int(queries[-1]) + 1 if has_cache else time  # a GPU is not waited for while it trains
    first = 0 if window is None else max(0, end - time - window + 1)
    keys = torch.arange(first, end, device=queries.device)
    is_causal = padding is None and documents is None and len(keys) == time and (window is None or window >= time)
    if is_causal and queries.is_cuda and not is_capped:
        return Sight(is_causal=True)
    return Sight(visible(queries, keys, window, padding, documents), is_causal=is_causal)


def visible(
    queries: Tensor, keys: Tensor, window: int | None, padding: Tensor | None, documents: Tensor | None = None
) -> Tensor:
    """Which keys each query may look at: those up to itself, ``window`` of them at most, none of the padding.

    Args:
        queries: (…, T) positions.
        keys: (…, S) positions; those below 0 are none.
        window: positions a query sees, itself included; None sees all.
        padding: (B) how many positions each row was padded with on the left.
        documents: (B, T) which document each position belongs to, where a query sees its own alone; then S is T.

    Returns:
        bool, (…, T, S), or (B, 1, T, S) where there is padding, or there are documents.
    """
    distance = queries[..., :, None] - keys[..., None, :]
    seen = (distance >= 0) & (keys[..., None, :] >= 0)
    if window is not None:
        seen &= distance < window
    if padding is not None:
        real = keys >= padding[:, None]  # (B, S)
        seen = seen & real[:, None, None, :] | (distance == 0)  # padding sees itself: a softmax over nothing is NaN
    if documents is not None:
        seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    return seen


def in_blocks(x: Tensor, block: int) -> Tensor:
    """(…, T, K) → (…, N, W, K) for blocks of W = ``block``; zeros fill the last one."""
    whole = F.pad(x, (0, 0, 0, -x.shape[-2] % block))
    return whole.view(*x.shape[:-2], -1, block, x.shape[-1])


def with_block_before(blocks: Tensor) -> Tensor:
    """(…, N, W, K) → (…, N, 2W, K): each block after the one before it, the first after zeros."""
    before = F.pad(blocks, (0, 0, 0, 0, 1, 0))[..., :-1, :, :]
    return torch.cat((before, blocks), dim=-2)


def positions_within(documents: Tensor) -> Tensor:
    """(B, T) → int64 (B, T): each token's place in its document, 0 for the first; the documents' numbers never fall."""
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return places - (places * begins).cummax(dim=1).values


def _banded(time: int, window: int, documents: Tensor | None, rows: int, device: torch.device) -> Tensor:
    """bool (B·N, 1, W, 2W); a position beyond the last sees itself."""
    count = -(-time // window)
    queries = torch.arange(count * window, device=device).view(count, window)
    seen = visible(queries, torch.cat((queries - window, queries), dim=-1), window, None)  # (N, W, 2W)
    if documents is None:
        return seen.repeat(rows, 1, 1)[:, None]
    own = in_blocks(documents[..., None], window)  # (B, N, W, 1)
    same = own == with_block_before(own).transpose(-1, -2)
    return (seen & same).flatten(0, 1)[:, None]
