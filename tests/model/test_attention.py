import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gemmazero.model.attention import _attend_fused, attend
from gemmazero.model.sight import Sight, sight, visible
from largest_tensor import LargestTensor


def random_heads(heads: int, groups: int, time: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, heads, time, 6), (2, groups, time, 6), (2, groups, time, 6)
    queries, keys, values = (torch.randn(shape, generator=generator) for shape in shapes)
    return queries, keys, values


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1), (3, 1)])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention_is_torchs_scaled_dot_product(heads: int, groups: int, window: int | None) -> None:
    queries, keys, values = random_heads(heads, groups)
    mask = visible(torch.arange(7), torch.arange(7), window, None)
    expected = F.scaled_dot_product_attention(
        queries.double(), keys.double(), values.double(), attn_mask=mask, scale=1.0, enable_gqa=True
    )
    seen = attend(queries, keys, values, Sight(mask), None)
    torch.testing.assert_close(seen.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("time", "window"), [(7, 3), (8, 2), (9, 2), (5, 1), (40, 6)])
@pytest.mark.parametrize("has_documents", [False, True])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_attention_in_blocks_is_that_over_all_keys(
    time: int, window: int, has_documents: bool, softcap: float | None
) -> None:
    heads = [x.double().requires_grad_() for x in random_heads(4, 2, time)]
    places = torch.arange(time)
    documents = torch.stack((places // 4, (places > 2).long())) if has_documents else None
    blocks = sight(places, window, None, documents, has_cache=False, rows=2)
    assert blocks.block == window
    whole = Sight(visible(places, places, window, None, documents))
    queries, keys, values = heads
    seen = [attend(queries, keys, values, how, softcap) for how in (blocks, whole)]
    torch.testing.assert_close(*seen)
    weights = torch.randn(seen[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad((one * weights).sum(), heads) for one in seen]
    torch.testing.assert_close(*gradients)


def test_memory_of_a_sliding_layer_grows_with_its_window_alone() -> None:
    largest = {}
    for time, window in ((256, 16), (1024, 16), (256, 64)):
        heads = [x.requires_grad_() for x in random_heads(4, 1, time)]
        with LargestTensor() as seen:
            how = sight(torch.arange(time), window, None, None, has_cache=False, rows=2)
            attend(*heads, how, None).sum().backward()
        largest[time, window] = seen.numbers / time
    assert largest[1024, 16] == largest[256, 16] == 2 * 4 * 2 * 16  # of scores a token: rows, heads, two blocks of keys
    assert largest[256, 64] == 4 * largest[256, 16]


@pytest.mark.parametrize("window", [None, 3, 7, 9])
def test_torchs_fused_attention_is_that_of_plain_products(window: int | None) -> None:
    queries, keys, values = random_heads(4, 2)
    places = torch.arange(7)
    for how in (sight(places, window, None, None, has_cache=True, rows=2), Sight()):
        plain = attend(queries, keys, values, how, None)
        torch.testing.assert_close(_attend_fused(queries, keys, values, how), plain, rtol=1e-5, atol=1e-6)


def test_soft_cap_bends_scores_before_the_mask() -> None:
    queries, keys, values = (x.double() for x in random_heads(4, 4))
    mask = visible(torch.arange(7), torch.arange(7), 3, None)
    scores = 0.7 * torch.tanh(queries @ keys.transpose(-1, -2) / 0.7)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values
    seen = attend(queries.float(), keys.float(), values.float(), Sight(mask), 0.7)
    torch.testing.assert_close(seen.double(), expected, rtol=1e-5, atol=1e-6)


def test_large_soft_cap_is_none() -> None:
    queries, keys, values = random_heads(4, 2)
    plain = attend(queries, keys, values, Sight(), None)
    torch.testing.assert_close(attend(queries, keys, values, Sight(), 1e6), plain, rtol=1e-4, atol=1e-5)


def test_capped_scores_may_overflow_fp16() -> None:
    queries = torch.full((1, 1, 1, 4), 200.0, dtype=torch.float16)
    keys = torch.tensor([[200.0] * 4, [190.0] * 4], dtype=torch.float16)[None, None]  # scores 160 000 and 152 000
    values = torch.tensor([[1.0] * 4, [2.0] * 4], dtype=torch.float16)[None, None]
    seen = attend(queries, keys, values, Sight(), 50.0)
    assert torch.equal(seen, torch.full((1, 1, 1, 4), 1.5, dtype=torch.float16))  # both are at the cap


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 3])
def test_fused_kernel_equals_the_plain_products(window: int | None) -> None:
    queries, keys, values = random_heads(4, 2)
    plain, fused = (
        attend(*(x.to(device) for x in (queries, keys, values)), how, None)
        for device in ("cpu", "cuda")
        for how in [sight(torch.arange(7, device=device), window, None, None, has_cache=False, rows=2)]
    )
    torch.testing.assert_close(fused.cpu(), plain, rtol=1e-5, atol=1e-5)
