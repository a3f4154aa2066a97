"""The gate of GeGLU (arXiv 2002.05202): gelu(gate) · up, with the tanh approximation of GELU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """(…, F) each → (…, F)."""
    if torch.compiler.is_compiling():  # which decides itself what to remember
        return _gelu(gate) * up
    product: Tensor = _Gating.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class _Gating(torch.autograd.Function):
    """Remembers gate and up for the backward pass: torch's own would keep gelu(gate), too."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _gelu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_gate = torch.ops.aten.gelu_backward(outer * up, gate, approximate="tanh")
        return of_gate, _gelu(gate).mul_(outer)
