import pytest
import torch

from gemmazero.model.product import onednn_has, product

ONEDNN = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch multiplies without MKL")


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("is_learning", [False, True])
@pytest.mark.parametrize("vocabulary", [1, 31, 1031])
@pytest.mark.parametrize("rows", [(1,), (3, 7), (200,), (0,)])
def test_a_product_is_that_of_the_same_numbers_in_float64(rows, vocabulary, is_learning):
    states, weight = numbers(*rows, 48), numbers(vocabulary, 48)
    with torch.set_grad_enabled(is_learning):
        logits = product(states, weight)
    assert logits.shape == (*rows, vocabulary)
    torch.testing.assert_close(logits.double(), states.double() @ weight.double().T, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_what_is_not_laid_out_row_by_row_is_multiplied_as_if_it_were():
    states, weight = numbers(4, 9, 48), numbers(300, 48)
    expected = product(states[:, -1].contiguous(), weight)
    for tall in (weight, weight.T.contiguous().T):
        torch.testing.assert_close(product(states[:, -1], tall), expected)


@ONEDNN
@torch.no_grad()
def test_any_number_of_threads_gives_the_same_bits():
    states, weight = numbers(333, 256), numbers(5021, 256)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(product(states, weight))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


@ONEDNN
def test_onednn_multiplies_float32_alone_and_where_there_is_no_gradient():
    states, weight = numbers(3, 48), numbers(31, 48).requires_grad_()
    assert not onednn_has(states, weight)
    with torch.no_grad():
        assert onednn_has(states, weight)
        assert not onednn_has(states.bfloat16(), weight.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn_has(states, weight)
            assert product(states, weight).dtype == torch.bfloat16
    product(states, weight).sum().backward()
    torch.testing.assert_close(weight.grad, states.sum(0).expand(31, -1))
