"""Next-token cross-entropy in chunks that fit: full logits never exist, forwards or backwards."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES, CHUNK_BYTES_ON_GPU = 64 * 2**20, 512 * 2**20
"""Of float32 logits in a chunk; a few tensors of that size exist at once. Each chunk reads the output matrix anew, and
adds to its gradient, which takes a GPU longer than the products of few rows."""
_ALIGNMENT = 64  # ids: rows of logits that begin anywhere are multiplied at two thirds of the speed


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
        device, vocabulary = hidden.device.type, len(weight)
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        narrow_hidden, padded = hidden.to(narrow), _padded(weight.to(narrow))
        size = max(1, chunk_bytes(device) // (4 * len(padded)))
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(padded, dtype=torch.float32)
        nats = torch.zeros((), dtype=torch.float64 if device == "cpu" else torch.float32, device=hidden.device)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), size):
                chunk = slice(start, start + size)
                some = narrow_hidden[chunk]
                gradient, more = _gradient(some, padded, targets[chunk, None], vocabulary, softcap, multiplier)
                nats += more
                hidden_gradient[chunk] = gradient @ padded
                if narrow == weight_gradient.dtype:
                    weight_gradient.addmm_(gradient.T, some)
                else:
                    weight_gradient += gradient.T @ some
                del gradient  # before the next chunk is made
        ctx.save_for_backward(hidden_gradient, weight_gradient[:vocabulary].to(weight.dtype))
        nats = nats.float()
        ctx.mark_non_differentiable(nats)
        return nats * multiplier, nats

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * outer, weight_gradient * outer, None, None, None


def _padded(weight: Tensor) -> Tensor:
    """(V, D) → (padded V, D): rows of zeros after the last, where they are needed."""
    missing = -len(weight) % _ALIGNMENT
    return F.pad(weight, (0, 0, 0, missing)) if missing else weight


def _gradient(
    hidden: Tensor, weight: Tensor, wanted: Tensor, vocabulary: int, softcap: float | None, multiplier: float
) -> tuple[Tensor, Tensor]:
    """The gradient of a chunk's logits, (rows, padded V) in the dtype of ``weight``, and the sum of its nats.

    One tensor of float32 logits becomes their softmax, and that the gradient, in place; a soft-cap takes another.
    """
    logits = (hidden @ weight.T).float()
    capped = None
    if softcap is not None:
        capped = logits.div_(softcap).tanh_()
        logits = capped * softcap
    logits[:, vocabulary:] = -torch.inf
    largest, right = logits.amax(dim=-1, keepdim=True), logits.gather(1, wanted)
    gradient = logits.sub_(largest).exp_()
    total = gradient.sum(dim=-1, keepdim=True)
    gradient *= multiplier / total
    gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -multiplier).expand_as(wanted))
    if capped is not None:
        gradient.addcmul_(gradient, capped.square_(), value=-1)
    return gradient.to(weight.dtype), (largest + total.log() - right).sum()
