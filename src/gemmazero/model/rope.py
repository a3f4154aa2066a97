"""Rotary positions (RoFormer, arXiv 2104.09864): position → the angles by which queries and keys are turned."""

import torch
from torch import Tensor


class Rotation:
    """The cosines and sines of a stretch of positions, for one RoPE base.

    Args:
        positions: (T) or (B, T) absolute positions.
        head_dim: K; pair ``i`` of ``K/2`` turns by ``position / factor · theta^(-2i/K)``.
        theta: the base; Gemma 3 has one for global and one for sliding layers.
        factor: linear scaling; positions are divided by it (arXiv 2306.15595).
        dtype: of the activations; the angles are computed in float32 and cast once.
    """

    def __init__(self, positions: Tensor, head_dim: int, theta: float, factor: float, dtype: torch.dtype) -> None:
        angles = positions.float()[..., None] * frequencies(head_dim, theta, factor, positions.device)  # (…, T, K/2)
        angles = torch.cat((angles, angles), dim=-1)
        if positions.dim() == 2:
            angles = angles[:, None]  # (B, 1, T, K): the same for every head
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Turn the two halves of every head against each other: (B, heads, T, K) → the same shape."""
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat((-second, first), dim=-1) * self.sin


def frequencies(head_dim: int, theta: float, factor: float, device: torch.device) -> Tensor:
    """float32 (K/2): the angle by which each pair of a head turns from one position to the next."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    return 1 / theta**exponents / factor  # theta**-exponents rounds otherwise than transformers
