"""A model's blocks as machine code, made for the machine that trains them."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gemmazero.config import TrainConfig
from gemmazero.model.cache import LayerMemory
from gemmazero.model.gemma import Decoder, through_block
from gemmazero.model.rope import Rotation
from gemmazero.model.sight import Sight
from gemmazero.runtime import compiled

_DESKTOP_SHARED_MEMORY = 101_376  # bytes that a block of threads may take: capabilities 8.6, 8.9 and 12.0


def set_compiled(decoder: Decoder, device: torch.device, *, is_compiled: bool) -> None:
    """Let the blocks of ``decoder`` be compiled for ``device`` while it is trained, or be as they are."""
    decoder.through = through_compiled_block if is_compiled else through_block
    decoder.fuses = is_compiled and device.type == "cuda" and has_room_for_tiles(device, decoder.config.head_dim)


def fuses_loss(settings: TrainConfig) -> bool:
    """Whether what happens to logits is compiled: on a GPU with the blocks; a CPU gains little by it."""
    return bool(settings.compile) and settings.device == "cuda"


def has_room_for_tiles(device: torch.device, head_dim: int) -> bool:
    """Whether this GPU's FlexAttention takes heads of such a size.

    Torch has kernels for 16 numbers on; a T4 is left out. They keep tiles of queries, keys and values in memory that a
    block of threads shares: for heads of 256 148 KiB, as torch 2.13 compiles them for a card that has but 99. Between
    128 and 256 they are as for neither, and need more than any but the largest cards have.
    """
    card = torch.cuda.get_device_properties(device)
    has_256 = getattr(card, "shared_memory_per_block_optin", 0) > _DESKTOP_SHARED_MEMORY
    return card.major >= 8 and (16 <= head_dim <= 128 or (has_256 and head_dim == 256))


def through_compiled_block(
    block: nn.Module, x: Tensor, rotation: Rotation, sight: Sight, cache: LayerMemory | None
) -> Tensor:
    """What ``through_block`` does, rounded otherwise; the first call with a shape compiles, which takes a minute.

    All blocks share one code, and there is no more in it: with the embedding's lookup beside them, a CPU's result would
    not be the same each time.
    """
    return _compiled()(block, x, rotation, sight, cache)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return compiled(through_block)
