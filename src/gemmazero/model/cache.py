"""What each layer remembers while decoding: everything, or only its window."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gemmazero.config import ModelConfig

_FIRST_CAPACITY = 256


class LayerMemory(Protocol):
    """What one layer remembers."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add new positions, (B, G, T, K); returns keys and values that they may look at, (B, G, S, K)."""
        ...


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
        new, kept = keys.shape[2], self._kept()
        if self._end + new > self._keys.shape[2]:
            self._move(kept, keys, max(2 * (kept + new), _FIRST_CAPACITY))
        self._keys.narrow(2, self._end, new).copy_(keys)
        self._values.narrow(2, self._end, new).copy_(values)
        start, self._end = self._end - kept, self._end + new
        return self._keys.narrow(2, start, kept + new), self._values.narrow(2, start, kept + new)

    def slot(self, positions: int, new: int = 1, like: Tensor | None = None) -> "Slot":
        """The place of the next position and those of ``new`` - 1 after it, for somebody else to fill.

        Args:
            positions: that the cache will hold at most; as long as they are fewer than the next power of two, every
                slot is one of the same buffers of the same size.
            new: at most 128.
            like: (B, G, 0, K), of the dtype to keep; for a cache that nothing was appended to before.
        """
        kept, capacity = self._kept(), self.capacity(positions)
        if capacity != self._keys.shape[2] or self._end + new > capacity:
            self._move(kept, self._keys if like is None else like, capacity)
        place, self._end = self._end, self._end + new
        return Slot(self._keys, self._values, first=place - kept, last=place)

    def capacity(self, positions: int) -> int:
        """Places in the buffers of its slots, where it holds so many positions at most."""
        capacity = max(_FIRST_CAPACITY, _power_of_two(positions))
        return capacity if self.window is None else min(capacity, max(_FIRST_CAPACITY, 2 * _power_of_two(self.window)))

    @property
    def buffers(self) -> tuple[Tensor, Tensor]:
        """Where keys and values are, (B, G, capacity, K); empty before the first."""
        return self._keys, self._values

    def move_to(self, keys: Tensor, values: Tensor) -> None:
        """Keep in these buffers what is kept, and what comes; no number in them may be other than finite."""
        if keys is not self._keys:
            self._carry(self._kept(), keys, values)

    def _kept(self) -> int:
        """How many of the positions so far the next one sees."""
        return self._end if self.window is None else min(self._end, self.window - 1)

    def _move(self, kept: int, like: Tensor, capacity: int) -> None:
        """Carry the last ``kept`` positions to the front of buffers of ``capacity``; nothing in them is not finite."""
        batch, groups, _, head_dim = like.shape
        if capacity == self._keys.shape[2]:
            self._carry(kept, self._keys, self._values)
        else:
            self._carry(kept, *(like.new_zeros(batch, groups, capacity, head_dim) for _ in range(2)))

    def _carry(self, kept: int, keys: Tensor, values: Tensor) -> None:
        """The last ``kept`` positions to the front of ``keys`` and ``values``, which may be where they are."""
        before = [buffer[:, :, self._end - kept : self._end].clone() for buffer in self.buffers]
        self._keys, self._values, self._end = keys, values, kept
        if kept:
            keys[:, :, :kept], values[:, :, :kept] = before


@dataclass(frozen=True)
class Slot:
    """A place in a layer's buffers: (B, G, capacity, K) each, of which ``first`` to ``last`` are seen from ``last``."""

    keys: Tensor
    values: Tensor
    first: int
    last: int


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


def _power_of_two(size: int) -> int:
    """The smallest that is no smaller."""
    return 1 << (size - 1).bit_length()
