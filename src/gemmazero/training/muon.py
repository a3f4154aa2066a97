"""Muon: momentum whose singular values are made alike (kellerjordan.github.io/posts/muon, arXiv 2502.16982)."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0, so that five rounds are enough
_ROUNDS = 5
_ADAMW_SIZE = 0.2  # root mean square of AdamW's updates, arXiv 2502.16982, section 2.2


class Muon(torch.optim.Optimizer):
    """The steps of ``torch.optim.Muon(adjust_lr_fn="match_rms_adamw")``, with products in a dtype to suit the device.

    Each update is ``lr · 0.2 · √(larger side)`` times an orthogonal matrix, as large as AdamW's usually are: both take
    the same learning rate. torch's own always multiplies in bfloat16, for which most CPUs have no units, where it takes
    longer than all else of a small model's step; here: float32, on CUDA float16. Matrices of one shape go together.

    Args:
        matrices: two-dimensional parameters of hidden layers.
        lr: learning rate.
        weight_decay: decoupled; a step takes away its ``lr``-th part of the weights.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move every matrix by its gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for (rows, columns), matrices in alike.items():
                updates = orthogonalized(torch.stack([self._direction(matrix) for matrix in matrices]))
                size = group["lr"] * _ADAMW_SIZE * max(rows, columns) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)

    def _direction(self, matrix: nn.Parameter) -> Tensor:
        """The gradient and those before it, by Nesterov's momentum."""
        state: dict[str, Any] = self.state[matrix]
        assert matrix.grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum_buffer"].lerp_(matrix.grad, 1 - _MOMENTUM)
        return matrix.grad.lerp(momentum, _MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """(N, rows, columns) → float32, the same shape: singular values near 1, between 0.7 and 1.2, singular vectors kept.

    Five rounds of x → a·x + b·x³ + c·x⁵ on the singular values (Newton–Schulz), by matrix products alone.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if wide.is_cuda:
        x = x.half()  # no number grows far beyond 1; it has three bits more than bfloat16, and a T4 multiplies it
    for _ in range(_ROUNDS):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    upright: Tensor = x if wide is matrices else x.mT
    return upright.float()
