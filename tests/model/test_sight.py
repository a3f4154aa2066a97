"""Which keys each query sees, as literal matrices."""

import torch
from torch import Tensor

from gemmazero.model.sight import in_blocks, sight, visible, with_block_before


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


def test_blocks_show_each_query_its_own_keys_and_those_before() -> None:
    seen = sight(torch.arange(5), 2, None, None, has_cache=False, rows=1).mask
    assert seen is not None
    assert [matrix(block) for block in seen[:, 0]] == [
        ["..x.", "..xx"],
        [".xx.", "..xx"],
        [".xx.", "..xx"],  # the last position is none, and sees itself
    ]


def test_block_comes_after_the_one_before_it() -> None:
    blocks = in_blocks(torch.arange(1, 6)[:, None], 2)
    assert blocks[..., 0].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert with_block_before(blocks)[..., 0].tolist() == [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 0]]


def test_only_plain_causal_attention_is_called_that() -> None:
    places, padding, documents = torch.arange(6), torch.tensor([2]), torch.zeros(1, 6, dtype=torch.int32)
    for window in (None, 6, 7):
        assert sight(places, window, None, None, has_cache=False, rows=1).is_causal
    assert not sight(places, 5, None, None, has_cache=False, rows=1).is_causal
    assert not sight(places, None, padding, None, has_cache=True, rows=1).is_causal
    assert not sight(places, None, None, documents, has_cache=False, rows=1).is_causal
    assert not sight(places + 1, None, None, None, has_cache=True, rows=1).is_causal


def test_one_query_without_padding_sees_all_that_its_cache_gives() -> None:
    assert sight(torch.tensor([7]), 3, None, None, has_cache=True, rows=2).mask is None
