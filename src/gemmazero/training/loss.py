"""Next-token cross-entropy in chunks that fit: full logits never exist, forwards or backwards."""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES, CHUNK_BYTES_ON_GPU = 64 * 2**20, 512 * 2**20
"""Of float32 logits in a chunk; a few tensors of that size exist at once. Each chunk reads the output matrix anew, and
adds to its gradient, which takes a GPU longer than the products of few rows."""
_ALIGNMENT = 64  # ids: rows of logits that begin anywhere are written at two thirds of the speed


def next_token_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None, multiplier: float
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

    Returns:
        The scalar to call ``backward`` on, and the plain sum in nats, detached.
    """
    loss, nats = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2), weight, targets.flatten(), softcap, multiplier
    )
    return loss, nats.detach()


def chunk_bytes(device: str) -> int:
    """Of the float32 logits that are there at once, on a device of this type."""
    return CHUNK_BYTES_ON_GPU if device == "cuda" else CHUNK_BYTES


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, multiplier: float
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        narrow_hidden, narrow_weight = hidden.to(narrow), weight.to(narrow)
        size = max(1, chunk_bytes(device) // (4 * len(weight)))
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        nats = torch.zeros((), dtype=torch.float64 if device == "cpu" else torch.float32, device=hidden.device)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), size):
                chunk = slice(start, start + size)
                some = narrow_hidden[chunk]
                gradient, more = _gradient(some, narrow_weight, targets[chunk, None], softcap, multiplier)
                nats += more
                hidden_gradient[chunk] = gradient @ narrow_weight
                if narrow == weight_gradient.dtype:
                    weight_gradient.addmm_(gradient.T, some)
                else:
                    weight_gradient += gradient.T @ some
                del gradient  # before the next chunk is made
        ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        nats = nats.float()
        ctx.mark_non_differentiable(nats)
        return nats * multiplier, nats

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        if outer.device.type == "cpu" and outer == 1:  # as ever in training: no copy; a GPU would be waited for
            return hidden_gradient, weight_gradient, None, None, None
        return hidden_gradient * outer, weight_gradient * outer, None, None, None


def _gradient(
    hidden: Tensor, weight: Tensor, wanted: Tensor, softcap: float | None, multiplier: float
) -> tuple[Tensor, Tensor]:
    """The gradient of a chunk's logits, (rows, V) in the dtype of ``weight``, and the sum of its nats.

    One tensor of float32 logits becomes their softmax, and that the gradient, in place; a soft-cap takes another.
    """
    product = torch.mm(hidden, weight.T, out=_aligned(len(hidden), weight, weight.dtype))
    is_wide = weight.dtype == torch.float32
    logits = product if is_wide else _aligned(len(hidden), weight, torch.float32).copy_(product)
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
    return gradient if is_wide else product.copy_(gradient), (largest + total.log() - right).sum()


def _aligned(rows: int, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for (rows, V) logits, each row at a multiple of some bytes from the one before."""
    padded = len(weight) + -len(weight) % _ALIGNMENT
    return weight.new_empty(rows, padded, dtype=dtype)[:, : len(weight)]
