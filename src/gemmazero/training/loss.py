"""Next-token cross-entropy in chunks that fit: full logits never exist, forwards or backwards."""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 64 * 2**20  # of float32 logits in a chunk; a few tensors of that size exist at once


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


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, multiplier: float
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        rows, size = len(hidden), max(1, CHUNK_BYTES // (4 * len(weight)))
        narrow_hidden, narrow_weight = hidden.to(narrow), weight.to(narrow)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        nats = torch.zeros((), dtype=torch.float64 if device == "cpu" else torch.float32, device=hidden.device)
        with torch.autocast(device, enabled=False):
            for start in range(0, rows, size):
                chunk = slice(start, start + size)
                some, wanted = narrow_hidden[chunk], targets[chunk, None]
                logits = some @ narrow_weight.T
                if softcap is not None:
                    capped = torch.tanh(logits.float() / softcap)
                    logits = capped * softcap
                gradient = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
                nats -= gradient.gather(1, wanted).sum()
                gradient.exp_()
                gradient.scatter_add_(1, wanted, gradient.new_full((1, 1), -1.0).expand_as(wanted))
                if softcap is not None:
                    gradient *= 1.0 - capped.square_()
                gradient *= multiplier
                gradient = gradient.to(narrow)
                hidden_gradient[chunk] = gradient @ narrow_weight
                weight_gradient += gradient.T @ some
        ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        nats = nats.float()
        ctx.mark_non_differentiable(nats)
        return nats * multiplier, nats

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * outer, weight_gradient * outer, None, None, None
