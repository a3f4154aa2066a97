"""``linear`` with a matrix that has as many rows as a vocabulary has ids, where no gradient is wanted."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Torch keeps oneDNN's product to itself, for what its compiler makes. It pays beside MKL, which is slow here.
_HAS_ONEDNN: bool = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def tall_linear(states: Tensor, weight: Tensor) -> Tensor:
    """(…, D), (V, D) → (…, V): ``linear``; of many float32 rows on a CPU without a gradient, oneDNN's."""
    return onednn_linear(states, weight) if onednn_takes(states, weight) else F.linear(states, weight)


def onednn_takes(states: Tensor, weight: Tensor) -> bool:
    """Whether ``onednn_linear`` can be had, and is worth it.

    On an AMD EPYC with AVX2 it took a third to nine tenths of MKL's time, from 2 rows on and but for one shape; of a
    single row MKL, on one thread, was mostly the quicker.
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
