"""Root-mean-square normalisation (arXiv 1910.07467) with Gemma's 1 + weight."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.Module):
    """x / rms(x) · (1 + weight) over the last dimension, computed in float32, returned in x's dtype."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, size) → the same shape and dtype."""
        if torch.compiler.is_compiling():  # which decides itself what to remember
            return _normalized(x, self.weight, self.eps)[0]
        normal: Tensor = _Normalization.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return normal


def _normalized(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of ``x``, and 1 / rms(x), float32 (…, 1)."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * scale * (1.0 + weight.float())).to(x.dtype), scale


class _Normalization(torch.autograd.Function):
    """Remembers x and a number a row for the backward pass: torch's own would keep x / rms(x), too.

    With n = x / rms(x), f = 1 + weight and g the gradient of the result, that of the weight is g·n, and that of x is
    (g·f - n·mean(g·f·n)) / rms(x).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normal, scale = _normalized(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        wide, factor = outer.float(), 1.0 + weight.float()
        normal = x.float() * scale
        both = (wide * normal).reshape(-1, len(weight))
        mean = (both.mv(factor) / len(weight)).view(scale.shape)
        gradient = (wide * factor).addcmul_(normal, mean, value=-1).mul_(scale)
        return gradient.to(x.dtype), both.sum(dim=0).to(weight.dtype), None
