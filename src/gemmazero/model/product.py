"""States · (a matrix with as many rows as a vocabulary has ids)ᵀ."""

import torch
from torch import Tensor
from torch.nn import functional as F


def product(states: Tensor, weight: Tensor) -> Tensor:
    """(…, D), (V, D) → (…, V): ``linear``, twice as quick where only the numbers are wanted, and oneDNN has them."""
    return onednn_product(states, weight) if onednn_has(states, weight) else F.linear(states, weight)


def onednn_has(states: Tensor, weight: Tensor) -> bool:
    """Whether ``onednn_product`` is to be had: for float32 on a CPU whose other library is MKL, without a gradient.

    On an AMD EPYC MKL takes twice as long for matrices so tall; torch has a way past it for what its compiler makes.
    """
    return (
        states.device.type == "cpu"
        and states.dtype == weight.dtype == torch.float32
        and states.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def onednn_product(states: Tensor, weight: Tensor) -> Tensor:
    """What ``product`` gives, rounded a little otherwise; any number of threads gives the same bits."""
    logits: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, None, "none", [], "")
    return logits
