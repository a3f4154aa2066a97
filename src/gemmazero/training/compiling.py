"""A model's blocks as machine code, made for the machine that trains them."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gemmazero.model.cache import Memory
from gemmazero.model.gemma import through_block
from gemmazero.model.rope import Rotation
from gemmazero.model.sight import Sight


def through_compiled_block(
    block: nn.Module, x: Tensor, rotation: Rotation, sight: Sight, cache: Memory | None
) -> Tensor:
    """What ``through_block`` does, rounded otherwise; the first call with a shape compiles, which takes a minute.

    All blocks share one code, and there is no more in it: with the embedding's lookup beside them, a CPU's result would
    not be the same each time.
    """
    return _compiled()(block, x, rotation, sight, cache)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    """Every shape has a code of its own.

    One for any shape would round differently, and come into use in the middle of a run: after another number of steps
    in a run that goes on than in the run that was never stopped.
    """
    return torch.compile(through_block, dynamic=False)
