"""Root-mean-square normalisation (arXiv 1910.07467) with Gemma's 1 + weight."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) · (1 + weight) over the last dimension, computed in float32, returned in x's dtype."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, size) → the same shape and dtype."""
        wide = x.float()
        normal = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (normal * (1.0 + self.weight.float())).to(x.dtype)
