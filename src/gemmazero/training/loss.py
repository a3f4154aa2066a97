"""Next-token cross-entropy in chunks that fit: full logits never exist, forwards or backwards."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gemmazero.model.tall_linear import onednn_linear, onednn_takes
from gemmazero.runtime import compiled

CHUNK_BYTES, CHUNK_BYTES_ON_GPU = 64 * 2**20, 512 * 2**20
"""Of float32 logits in a chunk; a few tensors of that size exist at once. Each chunk reads the output matrix anew, and
adds to its gradient, which takes a GPU longer than the products of few rows."""
FUSED_CHUNK_BYTES = 2**30
"""Of logits in a fused chunk, in the matrices' dtype; there is no other tensor of that size."""
_ALIGNMENT = 64  # ids: MKL writes rows of logits that begin anywhere at two thirds of the speed


def next_token_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None, multiplier: float, is_fused: bool = False
) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of softmax(cap · tanh(hidden · weightᵀ / cap)) against ``targets``, in float32.

    The gradient is computed on the way forward, a chunk of rows at a time, so that full logits never
    exist; the matrix products take autocast's dtype where it is on.

    Args:
        hidden: (B, T, D) final states.
        weight: (V, D) the output matrix.
        targets: int64 (B, T).
        softcap: of the logits; None where there is none.
        multiplier: the loss is multiplied by it, and so are the gradients: loss scale / tokens in the batch.
        is_fused: what happens to a chunk of logits is compiled into a few kernels, for a GPU; rounded otherwise.

    Returns:
        The scalar to call ``backward`` on, and the plain sum in nats, detached.
    """
    loss, nats = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2), weight, targets.flatten(), softcap, multiplier, is_fused
    )
    return loss, nats.detach()


def rows_at_once(vocabulary: int, device: str, itemsize: int, *, is_fused: bool) -> int:
    """Of logits in a chunk, on a device of this type, where matrices have numbers of ``itemsize`` bytes.

    Fused, it is a power of two, which mostly divides a batch: every other number of rows is compiled, too.
    """
    if is_fused:
        return 1 << max(1, FUSED_CHUNK_BYTES // (itemsize * vocabulary)).bit_length() - 1
    return max(1, (CHUNK_BYTES_ON_GPU if device == "cuda" else CHUNK_BYTES) // (4 * vocabulary))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        softcap: float | None,
        multiplier: float,
        is_fused: bool,
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        narrow_hidden, narrow_weight = hidden.to(narrow), weight.to(narrow)
        size = rows_at_once(len(weight), device, narrow.itemsize, is_fused=is_fused)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        nats = torch.zeros((), dtype=torch.float64 if device == "cpu" else torch.float32, device=hidden.device)
        gradient_of = _fused_gradient if is_fused else _gradient
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), size):
                chunk = slice(start, start + size)
                some = narrow_hidden[chunk]
                logits = _logits(some, narrow_weight)
                nats += gradient_of(logits, targets[chunk, None], softcap, multiplier)
                gradient = logits  # it has taken their place
                hidden_gradient[chunk] = gradient @ narrow_weight
                if narrow == weight_gradient.dtype:
                    weight_gradient.addmm_(gradient.T, some)
                else:
                    weight_gradient += gradient.T @ some
                del logits, gradient  # before the next chunk is made
        ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        nats = nats.float()
        ctx.mark_non_differentiable(nats)
        return nats * multiplier, nats

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if outer.device.type == "cpu" and outer == 1:  # as ever in training: no copy; a GPU would be waited for
            return hidden_gradient, weight_gradient, None, None, None, None
        return hidden_gradient * outer, weight_gradient * outer, None, None, None, None


def _logits(some: Tensor, weight: Tensor) -> Tensor:
    """(rows, D), (V, D) → (rows, V); oneDNN, which makes its tensor itself, is quicker all the same."""
    if onednn_takes(some, weight):
        return onednn_linear(some, weight)
    return torch.mm(some, weight.T, out=_aligned(len(some), len(weight), weight.dtype, weight.device))


def _gradient(product: Tensor, wanted: Tensor, softcap: float | None, multiplier: float) -> Tensor:
    """Put the gradient of logits (rows, V) in their place; returns the sum of their nats.

    One tensor of float32 logits becomes their softmax, and that the gradient, in place; a soft-cap takes another.
    """
    is_wide = product.dtype == torch.float32
    logits = (
        product if is_wide else _aligned(len(product), product.shape[1], torch.float32, product.device).copy_(product)
    )
    capped = None
    if softcap is not None:
        capped = (logits / softcap).tanh_()
        torch.mul(capped, softcap, out=logits)
    largest, right = logits.amax(dim=-1, keepdim=True), logits.gather(1, wanted)
    gradient = logits.sub_(largest).exp_()
    total = gradient.sum(dim=-1, keepdim=True)
    gradient *= multiplier / total
    gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -multiplier).expand_as(wanted))
    if capped is not None:
        gradient.addcmul_(gradient, capped.square_(), value=-1)
    if not is_wide:
        product.copy_(gradient)
    return (largest + total.log() - right).sum()


def _fused_gradient(product: Tensor, wanted: Tensor, softcap: float | None, multiplier: float) -> Tensor:
    """What ``_gradient`` does. A number would be part of the code, and fp16 compile another at each loss scale."""
    nats: Tensor = _compiled()(product, wanted, softcap, torch.full((), multiplier, device=product.device))
    return nats


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return compiled(_gradient_in_few_passes)


def _gradient_in_few_passes(product: Tensor, wanted: Tensor, softcap: float | None, multiplier: Tensor) -> Tensor:
    """What ``_gradient`` does, as functions of single numbers and rows, which a compiler fuses."""
    logits = product.float()
    capped = None
    if softcap is not None:
        capped = torch.tanh(logits / softcap)
        logits = softcap * capped
    largest, right = logits.amax(dim=-1, keepdim=True), logits.gather(1, wanted)
    powers = (logits - largest).exp()
    total = powers.sum(dim=-1, keepdim=True)
    is_wanted = torch.arange(product.shape[1], device=product.device) == wanted
    gradient = (powers / total - is_wanted.float()) * multiplier
    if capped is not None:
        gradient = gradient * (1 - capped.square())
    product.copy_(gradient)
    return (largest + total.log() - right).sum()


def _aligned(rows: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for (rows, V) logits, each row at a multiple of some bytes from the one before."""
    padded = vocabulary + -vocabulary % _ALIGNMENT
    return torch.empty(rows, padded, dtype=dtype, device=device)[:, :vocabulary]
