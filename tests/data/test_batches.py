from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_shards import write

from gemmazero.data.batches import Batches, choose_windows, permute
from gemmazero.data.shards import TokenShards
from gemmazero.errors import DataError


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    """103 tokens whose ids are their places."""
    folder = tmp_path_factory.mktemp("batches") / "data"
    write(folder, list(range(103)), tokens_a_file=20)
    return TokenShards(folder, "train")


def starts(batches: Batches, number: int) -> list[int]:
    return [int(row[0]) for row in batches[number].ids]


@pytest.mark.parametrize("sizes", [range(1, 300), pytest.param(range(300, 10_001), marks=pytest.mark.slow)])
def test_permutation_is_a_bijection_for_every_small_size(sizes: range) -> None:
    for size in sizes:
        assert np.array_equal(np.sort(permute(np.arange(size), size, "key")), np.arange(size)), size


@given(st.integers(1, 100_000), st.text())
def test_permutation_is_a_bijection(size: int, key: str) -> None:
    assert np.array_equal(np.bincount(permute(np.arange(size), size, key), minlength=size), np.ones(size))


@pytest.mark.parametrize("size", [10**12, 10**12 - 11, 2**40, 2**40 + 1])
def test_permutation_of_a_huge_size_stays_inside_and_never_repeats(size: int) -> None:
    indices = np.concatenate([np.arange(100_000), np.arange(size - 100_000, size)])
    places = permute(indices, size, "key")
    assert places.min() >= 0
    assert places.max() < size
    assert len(np.unique(places)) == len(indices)


def test_place_does_not_depend_on_its_company() -> None:
    whole = permute(np.arange(1000), 1000, "key")
    alone = [int(permute(np.array([index]), 1000, "key")[0]) for index in range(0, 1000, 37)]
    assert alone == whole[::37].tolist()


@pytest.mark.parametrize("size", [1000, 4096, 65_537])
def test_permutation_looks_shuffled(size: int) -> None:
    for key in range(10):
        places = permute(np.arange(size), size, str(key))
        noise = 1 / np.sqrt(size)
        assert abs(np.corrcoef(np.arange(size), places)[0, 1]) < 5 * noise
        assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 5 * noise
        assert abs(np.diff(places) == 1).sum() < 10  # neighbours that stay neighbours: one is expected
        assert (places == np.arange(size)).sum() < 10  # fixed points: one is expected


@pytest.mark.parametrize("size", [3, 4])
def test_small_permutations_are_all_about_equally_likely(size: int) -> None:
    seen: dict[tuple[int, ...], int] = {}
    for key in range(1200):
        order = tuple(permute(np.arange(size), size, str(key)).tolist())
        seen[order] = seen.get(order, 0) + 1
    expected = 1200 / {3: 6, 4: 24}[size]
    assert len(seen) == {3: 6, 4: 24}[size]
    assert all(abs(count - expected) < 6 * np.sqrt(expected) for count in seen.values())


def test_another_key_gives_an_unrelated_permutation() -> None:
    first, second = (permute(np.arange(10_000), 10_000, key) for key in ("0", "1"))
    assert (first == second).sum() < 15


def test_epoch_shows_every_window_exactly_once(shards: TokenShards) -> None:
    batches = Batches(shards, batch_size=2, sequence_length=10, seed=0)
    assert batches.windows == 10
    for epoch in range(5):
        seen = sorted(start for number in range(5) for start in starts(batches, 5 * epoch + number))
        assert seen == list(range(seen[0], seen[0] + 100, 10))
        assert 0 <= seen[0] <= 2


def test_tokens_left_out_differ_by_epoch(shards: TokenShards) -> None:
    batches = Batches(shards, batch_size=10, sequence_length=10, seed=0)
    assert {min(starts(batches, epoch)) for epoch in range(20)} == {0, 1, 2}


def test_targets_are_the_tokens_that_follow(shards: TokenShards) -> None:
    batch = Batches(shards, batch_size=4, sequence_length=7, seed=3)[11]
    assert batch.ids.shape == batch.targets.shape == (4, 7)
    assert batch.ids.dtype == batch.targets.dtype == torch.int64
    assert torch.equal(batch.targets, batch.ids + 1)  # an id is its place
    assert torch.equal(batch.ids, batch.ids[:, :1] + torch.arange(7))


def test_batch_is_a_pure_function_of_seed_and_number(shards: TokenShards) -> None:
    batches = Batches(shards, batch_size=3, sequence_length=10, seed=5)
    expected = [batches[number].ids.tolist() for number in range(12)]
    again = Batches(shards, batch_size=3, sequence_length=10, seed=5)
    assert [again[number].ids.tolist() for number in reversed(range(12))] == expected[::-1]


def test_batch_is_what_it_always_was(shards: TokenShards) -> None:
    batches = Batches(shards, batch_size=5, sequence_length=20, seed=0)  # an epoch
    assert [starts(batches, number) for number in range(3)] == [
        [22, 42, 2, 62, 82],
        [21, 61, 81, 1, 41],
        [21, 1, 41, 61, 81],
    ]


def test_batch_size_only_cuts_one_sequence_of_windows(shards: TokenShards) -> None:
    one, four = (Batches(shards, batch_size=size, sequence_length=10, seed=2) for size in (1, 4))
    assert [start for number in range(24) for start in starts(one, number)] == [
        start for number in range(6) for start in starts(four, number)
    ]


def test_seeds_and_epochs_have_orders_of_their_own(shards: TokenShards) -> None:
    orders = [
        tuple(start // 5 for start in starts(Batches(shards, batch_size=20, sequence_length=5, seed=seed), epoch))
        for seed in range(5)
        for epoch in range(5)
    ]
    assert len(set(orders)) == 25


def test_batch_larger_than_an_epoch_shows_each_window_as_often(shards: TokenShards) -> None:
    batch = Batches(shards, batch_size=30, sequence_length=10, seed=0)[7]
    assert np.bincount(batch.ids[:, 0] // 10, minlength=10).tolist() == [3] * 10


def test_tensors_are_owned_and_aligned(shards: TokenShards) -> None:
    for batch_size in (1, 2):
        batch = Batches(shards, batch_size=batch_size, sequence_length=7, seed=0)[0]
        for tensor in (batch.ids, batch.targets):
            assert tensor.is_contiguous()
            assert tensor.data_ptr() % 64 == 0
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_one_window_is_enough_and_less_is_an_error(shards: TokenShards, tmp_path: Path) -> None:
    assert Batches(shards, batch_size=1, sequence_length=102, seed=0)[5].ids.tolist() == [list(range(102))]
    with pytest.raises(DataError, match="103 tokens, less than one window") as error:
        Batches(shards, batch_size=1, sequence_length=103, seed=0)
    assert error.value.hint == "--sequence-length 102 at most"
    with pytest.raises(DataError, match="the validation split"):
        Batches(TokenShards(shards.folder, "validation"), batch_size=1, sequence_length=8, seed=0)


def test_documents_are_told_where_attention_is_to_stay_inside(shards: TokenShards, tmp_path: Path) -> None:
    write(tmp_path / "data", [5, 0, 6, 7, 0, 8, 9])
    batches = Batches(TokenShards(tmp_path / "data", "train"), batch_size=1, sequence_length=6, seed=0,
                      mask_documents=True)  # fmt: skip
    documents = batches[0].documents
    assert documents is not None
    assert documents.tolist() == [[0, 0, 1, 1, 1, 2]]
    assert Batches(shards, batch_size=1, sequence_length=6, seed=0)[0].documents is None


def test_there_is_no_batch_before_the_first(shards: TokenShards) -> None:
    with pytest.raises(IndexError):
        Batches(shards, batch_size=1, sequence_length=10, seed=0)[-1]


def test_chosen_windows_are_distinct_sorted_and_the_seeds_own() -> None:
    chosen = choose_windows(1000, 100, 3)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 100
    assert set(chosen) < set(range(1000))
    assert chosen == choose_windows(1000, 100, 3) != choose_windows(1000, 100, 4)
    assert choose_windows(10, 10, 3) == list(range(10))
