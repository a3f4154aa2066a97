"""One token of every row through the model, as machine code made for it: ``Gemma`` itself, in buffers that stay."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gemmazero.config import LayerType
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.sight import Sight
from gemmazero.runtime import compiled, compiling

_Pair = tuple[Tensor, Tensor]  # keys and values of a layer, (B, G, capacity, K)


class CompiledToken:
    """Reads a token a row. On CUDA a step is one graph of kernels, launched at once.

    The first call of each number of rows, and of positions to the next power of two, compiles; that takes a minute,
    and some seconds where an earlier process has done it. A graph is recorded anew for buffers at other addresses: so
    those of a cache that is gone are the next one's.
    """

    def __init__(self, model: Gemma) -> None:
        self._model = model
        self._step = compiled(_step, mode="reduce-overhead")
        self._free: dict[tuple[object, ...], list[list[_Pair]]] = defaultdict(list)
        self._lent: WeakKeyDictionary[Cache, _Lent] = WeakKeyDictionary()

    def __call__(self, ids: Tensor, cache: Cache, positions: int) -> Tensor:
        """int64 (B, 1), the tokens after those in the cache → float32 (B, V): what comes after them; in inference mode.

        Args:
            ids: on the model's device.
            cache: has read the beginning; it will hold ``positions`` at most.
            positions: of each row, those of the padding included.

        Raises:
            CompilationError: there is no compiler.
        """
        buffers = self._settled(cache, positions)
        slots = [layer.slot(positions) for layer in cache.layers]
        kinds = self._model.config.layer_types
        ends = {kind: [slot.first, slot.last] for kind, slot in zip(kinds, slots, strict=True)}
        places = torch.tensor([[cache.length, cache.length], *ends.values()]).to(ids.device, non_blocking=True)
        if ids.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            for buffer in (buffer for pair in buffers for buffer in pair):
                torch._dynamo.mark_static_address(buffer)  # written to, so that a graph must not have a copy
        with compiling():
            logits: Tensor = self._step(self._model, ids, places, tuple(ends), cache.padding, buffers)
        cache.length += 1
        return logits

    def _settled(self, cache: Cache, positions: int) -> list[_Pair]:
        """The buffers of each layer, where ``cache`` is from now on, and stays while it needs no larger ones."""
        capacities = tuple(layer.capacity(positions) for layer in cache.layers)
        before = lent = self._lent.get(cache)
        if lent is None or lent.capacities != capacities:
            lent = self._lent[cache] = self._lend(cache, capacities)
        for layer, pair in zip(cache.layers, lent.buffers, strict=True):
            layer.move_to(*pair)  # unless it is there: the model itself may have read on in others
        if before is not None and before is not lent:
            before.give_back()
        return lent.buffers

    def _lend(self, cache: Cache, capacities: tuple[int, ...]) -> "_Lent":
        like = cache.layers[0].buffers[0]
        rows, groups, _, head_dim = like.shape
        free = self._free[rows, capacities, like.dtype, like.device]
        buffers = free.pop() if free else [
            (like.new_empty(rows, groups, capacity, head_dim), like.new_empty(rows, groups, capacity, head_dim))
            for capacity in capacities
        ]  # fmt: skip
        for keys, values in buffers:
            keys.zero_(), values.zero_()  # what is not seen counts 0 times, which must be a number
        give_back = weakref.finalize(cache, free.append, buffers)
        give_back.atexit = False
        return _Lent(capacities, buffers, give_back)


@dataclass(frozen=True)
class _Lent:
    """What a cache has; ``give_back`` is called once, at the latest when the cache is gone."""

    capacities: tuple[int, ...]
    buffers: list[_Pair]
    give_back: Callable[[], object]


def _step(
    model: Gemma,
    ids: Tensor,
    places: Tensor,
    kinds: Sequence[LayerType],
    padding: Tensor | None,
    buffers: Sequence[tuple[Tensor, Tensor]],
) -> Tensor:
    """What ``Gemma`` does with a cache, where positions and places in it are numbers in a tensor.

    Args:
        model: whose layers write to ``buffers``.
        ids: int64 (B, 1).
        places: int64 (1 + kinds, 2): the position of ``ids``, twice; then the first and the last place that each of
            ``kinds`` sees.
        kinds: of layers, in the order of ``places``.
        padding: (B) how many positions each row was padded with on the left.
        buffers: keys and values of each layer, (B, G, capacity, K).
    """
    decoder = model.model
    x = decoder.embed(ids)
    position = places[0, :1]  # (1)
    real = position if padding is None else (position - padding)[:, None]
    slots = {
        kind: (place, decoder.rotation(kind, real, x.dtype)) for kind, place in zip(kinds, places[1:], strict=True)
    }
    for block, kind, (keys, values) in zip(decoder.layers, decoder.config.layer_types, buffers, strict=True):
        (first, last), rotation = slots[kind]
        there = torch.arange(keys.shape[2], device=ids.device)
        seen = ((there >= first) & (there <= last))[None]
        if padding is not None:
            seen = (seen & (there - last + position >= padding[:, None]))[:, None, None]
        x = block(x, rotation, Sight(seen), _Buffers(keys, values, last))
    return model.logits(decoder.norm(x)[:, -1])


@dataclass(frozen=True)
class _Buffers:
    """A layer's memory while its next token is read."""

    keys: Tensor
    values: Tensor
    place: Tensor

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put (B, G, 1, K) in their place; returns all there is, (B, G, capacity, K)."""
        self.keys.index_copy_(2, self.place[None], keys)
        self.values.index_copy_(2, self.place[None], values)
        return self.keys, self.values
