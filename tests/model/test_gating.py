import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gemmazero.model.gating import gated


def gate_and_up(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    drawn = 3 * torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gate, up = drawn.to(dtype)
    return gate.requires_grad_(), up.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_value_and_gradients_are_those_of_torchs_gelu(dtype: torch.dtype) -> None:
    gate, up = gate_and_up(dtype)
    outer = torch.linspace(-1, 1, gate.numel(), dtype=dtype).view(gate.shape)
    results = [gated(gate, up), F.gelu(gate, approximate="tanh") * up]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad((one * outer).sum(), (gate, up)) for one in results))


def test_what_comes_in_is_all_that_is_remembered() -> None:
    gate, up = gate_and_up(torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved.data_ptr()) or saved, lambda x: x):
        gated(gate, up)
    assert sorted(kept) == sorted([gate.data_ptr(), up.data_ptr()])
