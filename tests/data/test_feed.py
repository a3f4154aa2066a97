from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch

from gemmazero.data.batch import Batch, Bookmark, Passage
from gemmazero.data.batches import Batches
from gemmazero.data.feed import Feed
from gemmazero.data.shards import TokenShards
from gemmazero.errors import DataError


class Stories:
    """Batch n holds n alone and begins at place 10 n; it can only be read from an earlier place on."""

    def __init__(self) -> None:
        self.away = ""
        self.begun: list[tuple[int, int]] = []
        self.is_open = Event()
        self.is_open.set()
        self.last = 10**9

    def starting_at(self, number: int, bookmark: Bookmark | None) -> Iterator[Passage]:
        place = 0 if bookmark is None else bookmark["place"]
        self.begun.append((number, place))
        assert place <= 10 * number
        while True:
            self.is_open.wait()
            if number > self.last:
                raise DataError(f"no batch {number}")
            tensor = torch.full((1, 1), number)
            marks = ({"place": 10 * number}, {"place": 10 * number + 10})
            yield Passage(Batch(tensor, tensor), lambda number=number: [[number]], *marks)
            number += 1

    def close(self) -> None:
        self.is_open.set()


@pytest.fixture
def stories() -> Iterator[Stories]:
    stories = Stories()
    yield stories
    stories.close()


def numbers(feed: Feed, *wanted: int) -> list[int]:
    return [int(feed[number].ids) for number in wanted]


def test_batches_are_what_they_are_without_reading_ahead(tiny_data: Path) -> None:
    shards = TokenShards(tiny_data, "train")
    batches = Batches(shards, batch_size=3, sequence_length=16, seed=1)
    feed = Feed(batches, 48)
    for number in (0, 1, 2, 7, 7, 8, 3, 4, 200):
        assert torch.equal(feed[number].ids, batches[number].ids)
        assert feed.documents(number) == batches.documents(number)
        assert feed.bookmark(number + 1) is None
    feed.close()


def test_batches_in_their_order_are_read_once(stories: Stories) -> None:
    feed = Feed(stories, 1)
    assert numbers(feed, 0, 1, 1, 1, 2, 3) == [0, 1, 1, 1, 2, 3]
    assert stories.begun == [(0, 0)]
    assert feed.documents(3) == [[3]]


def test_bookmark_is_where_the_batch_begins(stories: Stories) -> None:
    feed = Feed(stories, 1)
    assert feed.bookmark(0) is None
    numbers(feed, 0, 1)
    assert feed.bookmark(1) == {"place": 10}
    assert feed.bookmark(2) == {"place": 20}
    assert stories.begun == [(0, 0)]


def test_reading_goes_on_at_the_bookmark_that_was_told(stories: Stories) -> None:
    feed = Feed(stories, 1)
    feed.go_to(5, {"place": 50})
    assert feed.bookmark(5) == {"place": 50}
    assert numbers(feed, 5, 6) == [5, 6]
    assert stories.begun == [(5, 50)]


def test_way_back_reads_on_where_it_was(stories: Stories) -> None:
    """The guard takes up an older state, and goes on with the batches that nobody has read."""
    feed = Feed(stories, 1)
    numbers(feed, *range(8))
    feed.go_to(3, {"place": 30})
    assert feed.bookmark(8) == {"place": 80}
    assert numbers(feed, 8) == [8]
    assert stories.begun == [(0, 0)]


def test_way_back_in_a_new_session_finds_its_place(stories: Stories) -> None:
    """A resumed run may have to go back before it has read anything."""
    feed = Feed(stories, 1)
    feed.go_to(8, {"place": 80})
    feed.go_to(3, {"place": 30})
    assert feed.bookmark(8) == {"place": 80}
    assert numbers(feed, 8) == [8]
    assert stories.begun == [(8, 80)]


def test_unknown_bookmark_is_read_for(stories: Stories) -> None:
    feed = Feed(stories, 1)
    feed.go_to(3, {"place": 30})
    assert feed.bookmark(6) == {"place": 60}
    assert stories.begun == [(6, 30)]


def test_error_surfaces_at_the_batch_that_it_spoils(stories: Stories) -> None:
    stories.last = 2
    feed = Feed(stories, 1)
    assert numbers(feed, 0, 1, 2) == [0, 1, 2]
    assert feed.wait(3, lambda: False) == ""
    with pytest.raises(DataError, match="no batch 3"):
        feed[3]


def test_waiting_tells_a_new_reason_at_once_and_only_once(stories: Stories) -> None:
    feed = Feed(stories, 1)
    stories.is_open.clear()
    stories.away = "the Hub is away"
    assert feed.wait(0, lambda: False) == "the Hub is away"
    asked = iter([False, False, True])
    assert feed.wait(0, lambda: next(asked)) == "the Hub is away"
    assert next(asked, None) is None, "the same reason is no news"
    stories.away = ""
    stories.is_open.set()
    assert feed.wait(0, lambda: False) == ""
    assert numbers(feed, 0) == [0]


def test_wish_to_stop_ends_the_wait_for_what_is_only_slow(stories: Stories) -> None:
    stories.is_open.clear()
    feed = Feed(stories, 1)
    assert feed.wait(0, lambda: True) == "the documents have not arrived yet"


@pytest.mark.gpu
def test_batches_for_a_gpu_lie_in_pinned_memory_and_are_the_same(tiny_data: Path) -> None:
    batches = Batches(TokenShards(tiny_data, "train"), batch_size=3, sequence_length=16, seed=1, mask_documents=True)
    feed = Feed(batches, 48, pinned=True)
    for number in (0, 1, 7):
        batch, expected = feed[number], batches[number]
        assert batch.documents is not None
        assert expected.documents is not None
        for pinned, plain in zip(
            (batch.ids, batch.targets, batch.documents),
            (expected.ids, expected.targets, expected.documents),
            strict=True,
        ):
            assert pinned.is_pinned()
            assert torch.equal(pinned, plain)
        parts = list(batch.micro_batches(2, torch.device("cuda")))
        assert torch.equal(torch.cat([part.ids for part in parts]).cpu(), expected.ids)
    feed.close()
