import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gemmazero.model.tall_linear import onednn_takes, tall_linear

HAS_ONEDNN = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch multiplies without MKL")


class Called(TorchDispatchMode):
    """Remembers which of torch's operations are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.name())
        return operation(*args, **(kwargs or {}))


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("is_learning", [False, True])
@pytest.mark.parametrize("vocabulary", [1, 31, 1031])
@pytest.mark.parametrize("shape", [(1, 48), (3, 7, 48), (200, 48), (0, 48), (3, 0)])
def test_it_is_the_product_of_the_same_numbers_in_float64(shape, vocabulary, is_learning):
    states, weight = numbers(*shape), numbers(vocabulary, shape[-1])
    with torch.set_grad_enabled(is_learning):
        logits = tall_linear(states, weight)
    assert logits.shape == (*shape[:-1], vocabulary)
    torch.testing.assert_close(logits.double(), states.double() @ weight.double().T, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_what_is_not_laid_out_row_by_row_is_multiplied_as_if_it_were():
    states, weight = numbers(4, 9, 48), numbers(300, 48)
    expected = tall_linear(states[:, -1].contiguous(), weight)
    for tall in (weight, weight.T.contiguous().T):
        torch.testing.assert_close(tall_linear(states[:, -1], tall), expected)


@HAS_ONEDNN
@torch.no_grad()
def test_onednn_takes_many_rows_of_float32_where_there_is_no_gradient():
    states, weight = numbers(7, 31), numbers(128, 31)
    assert onednn_takes(states, weight)
    with Called() as called:
        tall_linear(states, weight)
    assert any("mkldnn" in name for name in called.names)
    assert not onednn_takes(states[:1], weight)
    assert not onednn_takes(states.bfloat16(), weight)
    assert not onednn_takes(states, weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not onednn_takes(states, weight)
        assert tall_linear(states, weight).dtype == torch.bfloat16
    with torch.enable_grad():
        assert not onednn_takes(states, weight)
        assert tall_linear(states, weight.requires_grad_()).requires_grad


@torch.no_grad()
def test_a_compiler_takes_it_whole():
    states, weight = numbers(7, 31), numbers(128, 31)
    whole = torch.compile(tall_linear, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(states, weight), states @ weight.T)
