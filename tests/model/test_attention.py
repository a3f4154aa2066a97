import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gemmazero.model.attention import attend, visible


def matrix(seen: Tensor) -> list[str]:
    return ["".join("x" if sees else "." for sees in row) for row in seen.tolist()]


def test_global_layer_sees_itself_and_all_before() -> None:
    assert matrix(visible(torch.arange(4), torch.arange(4), None, None)) == [
        "x...",
        "xx..",
        "xxx.",
        "xxxx",
    ]


def test_window_counts_the_query_itself() -> None:
    assert matrix(visible(torch.arange(6), torch.arange(6), 3, None)) == [
        "x.....",
        "xx....",
        "xxx...",
        ".xxx..",
        "..xxx.",
        "...xxx",
    ]


def test_window_of_one_sees_itself_alone() -> None:
    assert matrix(visible(torch.arange(3), torch.arange(3), 1, None)) == ["x..", ".x.", "..x"]


def test_later_queries_see_keys_of_the_cache() -> None:
    assert matrix(visible(torch.arange(5, 8), torch.arange(3, 8), 3, None)) == [
        "xxx..",
        ".xxx.",
        "..xxx",
    ]


def test_padding_is_seen_by_itself_alone() -> None:
    seen = visible(torch.arange(4), torch.arange(4), None, torch.tensor([0, 2]))
    assert seen.shape == (2, 1, 4, 4)
    assert matrix(seen[0, 0]) == [
        "x...",
        "xx..",
        "xxx.",
        "xxxx",
    ]
    assert matrix(seen[1, 0]) == [
        "x...",
        ".x..",
        "..x.",
        "..xx",
    ]


def test_padding_and_window_hide_both() -> None:
    seen = visible(torch.arange(5), torch.arange(5), 2, torch.tensor([2]))
    assert matrix(seen[0, 0]) == [
        "x....",
        ".x...",
        "..x..",
        "..xx.",
        "...xx",
    ]


def random_heads(heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, heads, 7, 6), (2, groups, 7, 6), (2, groups, 7, 6)
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
    torch.testing.assert_close(attend(queries, keys, values, mask, None).double(), expected, rtol=1e-5, atol=1e-6)


def test_soft_cap_bends_scores_before_the_mask() -> None:
    queries, keys, values = (x.double() for x in random_heads(4, 4))
    mask = visible(torch.arange(7), torch.arange(7), 3, None)
    scores = 0.7 * torch.tanh(queries @ keys.transpose(-1, -2) / 0.7)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ values
    seen = attend(queries.float(), keys.float(), values.float(), mask, 0.7)
    torch.testing.assert_close(seen.double(), expected, rtol=1e-5, atol=1e-6)


def test_large_soft_cap_is_none() -> None:
    queries, keys, values = random_heads(4, 2)
    plain = attend(queries, keys, values, None, None)
    torch.testing.assert_close(attend(queries, keys, values, None, 1e6), plain, rtol=1e-4, atol=1e-5)


def test_capped_scores_may_overflow_fp16() -> None:
    queries = torch.full((1, 1, 1, 4), 200.0, dtype=torch.float16)
    keys = torch.tensor([[200.0] * 4, [190.0] * 4], dtype=torch.float16)[None, None]  # scores 160 000 and 152 000
    values = torch.tensor([[1.0] * 4, [2.0] * 4], dtype=torch.float16)[None, None]
    seen = attend(queries, keys, values, None, 50.0)
    assert torch.equal(seen, torch.full((1, 1, 1, 4), 1.5, dtype=torch.float16))  # both are at the cap


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 3])
def test_fused_kernel_equals_the_plain_products(window: int | None) -> None:
    queries, keys, values = random_heads(4, 2)
    mask = visible(torch.arange(7), torch.arange(7), window, None)
    plain = attend(queries, keys, values, mask, None)
    fused = attend(queries.cuda(), keys.cuda(), values.cuda(), mask.cuda(), None)
    torch.testing.assert_close(fused.cpu(), plain, rtol=1e-5, atol=1e-5)
