import pytest
import torch
from torch.nn import functional as F
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

from gemmazero.model.norm import RMSNorm


def random_norm(size: int, eps: float) -> RMSNorm:
    norm = RMSNorm(size, eps)
    with torch.no_grad():
        norm.weight.normal_(0.0, 0.5, generator=torch.Generator().manual_seed(0))
    return norm


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_norm_is_torchs_with_one_plus_the_weight(eps: float) -> None:
    norm = random_norm(7, eps)
    x = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1))
    expected = F.rms_norm(x.double(), (7,), 1.0 + norm.weight.double(), eps)
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-6, atol=1e-6)


def test_zero_weights_normalise_and_nothing_else() -> None:
    x = torch.tensor([[3.0, 4.0, 0.0, 0.0]])  # its root mean square is 2.5
    torch.testing.assert_close(RMSNorm(4, 1e-12)(x), torch.tensor([[1.2, 1.6, 0.0, 0.0]]))


def test_narrow_input_is_scaled_before_it_is_rounded() -> None:
    norm = random_norm(64, 1e-6).to(torch.bfloat16)
    theirs = Gemma3RMSNorm(64, 1e-6).to(torch.bfloat16)
    theirs.load_state_dict(norm.state_dict())
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    normal = norm(x)
    assert normal.dtype == torch.bfloat16
    assert torch.equal(normal, theirs(x))


def test_squares_beyond_fp16_do_not_overflow() -> None:
    x = torch.full((1, 8), 3e4, dtype=torch.float16)
    torch.testing.assert_close(RMSNorm(8, 1e-6)(x), torch.ones(1, 8, dtype=torch.float16))


def test_gradients_are_those_of_the_formula_in_double_precision() -> None:
    norm = random_norm(7, 1e-3)
    x, outer = torch.randn(2, 2, 3, 7, generator=torch.Generator().manual_seed(1)).requires_grad_().unbind()
    ours = torch.autograd.grad((norm(x) * outer.detach()).sum(), (x, norm.weight))
    wide, weight = x.detach().double().requires_grad_(), norm.weight.detach().double().requires_grad_()
    expected = F.rms_norm(wide, (7,), 1.0 + weight, 1e-3)
    theirs = torch.autograd.grad((expected * outer.detach().double()).sum(), (wide, weight))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


def test_a_norm_remembers_its_input_and_a_number_a_row() -> None:
    kept: list[tuple[int, ...]] = []
    x = torch.randn(5, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved.shape) or saved, lambda saved: saved):
        random_norm(8, 1e-6)(x)
    assert sorted(kept) == [(5, 1), (5, 8), (8,)]
