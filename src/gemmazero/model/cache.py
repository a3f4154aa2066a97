"""What each layer remembers while decoding: everything, or only its window."""

import torch
from torch import Tensor

from gemmazero.config import ModelConfig

_FIRST_CAPACITY = 256


class LayerCache:
    """Keys and values of one layer: (B, G, S, K), the newest S positions that it can still see.

    Args:
        window: positions a query sees, itself included; None for a global layer, which keeps all.
    """

    def __init__(self, window: int | None) -> None:
        self.window = window
        self._keys = self._values = torch.empty(0, 0, 0, 0)
        self._end = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add T new positions; returns what they can see: up to ``window - 1`` earlier positions, then themselves."""
        new = keys.shape[2]
        kept = self._end if self.window is None else min(self._end, self.window - 1)
        if self._end + new > self._keys.shape[2]:
            self._move(kept, keys, values)
        self._keys.narrow(2, self._end, new).copy_(keys)
        self._values.narrow(2, self._end, new).copy_(values)
        start, self._end = self._end - kept, self._end + new
        return self._keys.narrow(2, start, kept + new), self._values.narrow(2, start, kept + new)

    def _move(self, kept: int, keys: Tensor, values: Tensor) -> None:
        """Carry the last ``kept`` positions to the front of a buffer with room for at least as much again."""
        batch, groups, new, head_dim = keys.shape
        capacity = max(2 * (kept + new), _FIRST_CAPACITY)
        buffers = keys.new_empty(batch, groups, capacity, head_dim), values.new_empty(batch, groups, capacity, head_dim)
        if kept:
            buffers[0][:, :, :kept] = self._keys[:, :, self._end - kept : self._end]
            buffers[1][:, :, :kept] = self._values[:, :, self._end - kept : self._end]
        (self._keys, self._values), self._end = buffers, kept


class Cache:
    """One ``LayerCache`` a layer, and how far the batch has been read.

    Args:
        config: of the model.
        padding: (B) how many positions each row was padded with on the left; None where there is no padding.
    """

    def __init__(self, config: ModelConfig, padding: Tensor | None = None) -> None:
        self.length = 0
        self.padding = padding
        self.layers = [
            LayerCache(config.sliding_window if kind == "sliding_attention" else None) for kind in config.layer_types
        ]
