"""Muon against torch's own, which multiplies in bfloat16, and against singular values in float64."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gemmazero.config import TrainConfig
from gemmazero.training.muon import Muon, orthogonalized
from gemmazero.training.optimizer import Optimizer
from tiny_run import MODEL, SETTINGS, make_model

SHAPES = [(24, 8), (8, 24), (16, 16), (8, 24)]


def random_matrices(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def test_updates_are_those_of_torchs_muon_within_its_rounding() -> None:
    ours, theirs = ([nn.Parameter(matrix) for matrix in random_matrices(0)] for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.3}
    optimizers = Muon(ours, **settings), torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for step in range(1, 4):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter, gradient in zip(parameters, random_matrices(step), strict=True):
                parameter.grad = gradient
            optimizer.step()
    for start, one, other in zip(random_matrices(0), ours, theirs, strict=True):
        assert (one - other).norm() < 0.02 * (other - start).norm()  # bfloat16 has 8 bits
        momenta = [
            optimizer.state[key]["momentum_buffer"] for optimizer, key in zip(optimizers, (one, other), strict=True)
        ]
        torch.testing.assert_close(*momenta)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrices.double(), full_matrices=False)
    values = values / values.norm(dim=1, keepdim=True)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonalized(matrices).double(), left @ values.diag_embed() @ right, rtol=0, atol=1e-4)


def test_no_gradient_moves_nothing_by_more_than_the_decay() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(parameter.detach(), torch.full((4, 4), 0.95))


@pytest.mark.parametrize("tied", [True, False])
def test_muon_moves_the_matrices_of_the_blocks_and_adamw_all_else(tied: bool) -> None:
    model = make_model(config=replace(MODEL, tie_word_embeddings=tied))
    optimizer = Optimizer(model, TrainConfig(**SETTINGS | {"optimizer": "muon"}))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for part in optimizer.parts:
        part.step()
    kinds: dict[str, set[str]] = defaultdict(set)
    for owner, _, kind in (name.rpartition(".") for name in optimizer.state_dict()):
        kinds[kind].add(owner)
    blocks = {name for name, weight in model.named_parameters() if ".layers." in name and weight.dim() == 2}
    assert kinds["momentum_buffer"] == blocks
    assert kinds["exp_avg"] == {name for name, _ in model.named_parameters()} - blocks
