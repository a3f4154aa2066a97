"""``linear`` with a matrix that has as many rows as a vocabulary has ids, where no gradient is wanted."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Torch has oneDNN's product for what its compiler makes; beside MKL, whose own is slow for so tall a matrix.
_HAS_ONEDNN: bool = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def tall_linear(states: Tensor, weight: Tensor) -> Tensor:
    """(…, D), (V, D) → (…, V): ``linear``; of many float32 rows on a CPU without a gradient, oneDNN's."""
    return onednn_linear(states, weight) if onednn_takes(states, weight) else F.linear(states, weight)


def onednn_takes(states: Tensor, weight: Tensor) -> bool:
    """Whether ``onednn_linear`` can be had, and is worth it.

    On an AMD EPYC with AVX2 it took half of MKL's time, of 2 rows and of hundreds; of a single one MKL's was less, or
    both took as long as reading the matrix does.
    """
    return (
        _HAS_ONEDNN
        and states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and states.numel() > states.shape[-1] > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def onednn_linear(states: Tensor, weight: Tensor) -> Tensor:
    """What ``linear`` gives, rounded otherwise."""
    logits: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, None, "none", [], "")
    return logits
