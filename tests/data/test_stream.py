"""The law: batch n is a function of the source and the seed, wherever reading began."""

import random
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch

from gemmazero.data import stream
from gemmazero.data.batch import Passage
from gemmazero.data.sources import Documents
from gemmazero.data.stream import Stream
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.errors import DataError

BYTES = make_tokenizer("bytes", lambda: (), turn_tokens=False)
END = BYTES.end_id


def texts(count: int, seed: int = 0) -> list[str]:
    """Different documents of 1 to 40 letters and a number."""
    chance = random.Random(seed)
    return [f"{number}:{'abcdefgh' * chance.randint(0, 5)}" for number in range(count)]


def parts(*split: list[str | None]) -> Callable[[], list[Documents]]:
    return lambda: [lambda part=part: iter(part) for part in split]  # type: ignore[misc]


def make(
    source: Callable[[], list[Documents]],
    *,
    held_out: tuple[bytes, ...] = (),
    batch_size: int = 3,
    sequence_length: int = 16,
    seed: int = 0,
    min_characters: int = 1,
    mask_documents: bool = False,
) -> Stream:
    return Stream(
        source, BYTES, held_out, batch_size=batch_size, sequence_length=sequence_length, seed=seed,
        min_characters=min_characters, mask_documents=mask_documents,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven documents in a block, so that there are many."""
    monkeypatch.setattr(stream, "BLOCK_DOCUMENTS", 7)


def passages(stream: Stream, count: int) -> list[Passage]:
    return list(islice(stream.starting_at(0, None), count))


def tokens(read: list[Passage]) -> list[int]:
    """All ids in a row: the stream itself."""
    return [int(id_) for passage in read for id_ in passage.batch.ids.flatten()]


def documents(read: list[Passage]) -> list[str]:
    """The whole documents in the order in which they were packed."""
    ids = np.array(tokens(read))
    return [BYTES.decode(part[:-1].tolist()) for part in np.split(ids, np.flatnonzero(ids == END) + 1)[:-1]]


def same(first: Passage, second: Passage) -> bool:
    return (
        torch.equal(first.batch.ids, second.batch.ids)
        and torch.equal(first.batch.targets, second.batch.targets)
        and (first.begin, first.after) == (second.begin, second.after)
        and first.documents() == second.documents()
    )


def test_epoch_shows_every_document_once_in_an_order_of_its_own() -> None:
    source = texts(50)
    read = documents(passages(make(parts(source[:20], source[20:])), 120))
    epochs = [read[start : start + 50] for start in range(0, 150, 50)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(source)] * 3
    assert len({tuple(epoch) for epoch in [*epochs, source]}) == 4


def test_documents_change_places_within_their_block_alone() -> None:
    source = texts(21)
    read = documents(passages(make(parts(source)), 20))
    assert [set(read[start : start + 7]) for start in (0, 7, 14)] == [set(source[a : a + 7]) for a in (0, 7, 14)]


def test_large_documents_make_a_block_of_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", 100)
    source = [f"{number}" + "x" * 50 for number in range(6)]
    read = documents(passages(make(parts(source)), 8))
    assert [set(read[start : start + 2]) for start in (0, 2, 4)] == [set(source[a : a + 2]) for a in (0, 2, 4)]


def test_windows_follow_each_other_and_targets_are_one_place_further_on() -> None:
    read = passages(make(parts(texts(50))), 30)
    flat = tokens(read)
    targets = [int(id_) for passage in read for id_ in passage.batch.targets.flatten()]
    assert targets[:-1] == flat[1:]
    assert all(passage.batch.ids.shape == (3, 16) for passage in read)


def test_order_is_the_seeds_own() -> None:
    source = parts(texts(50))
    assert tokens(passages(make(source), 9)) == tokens(passages(make(source), 9))
    assert tokens(passages(make(source), 9)) != tokens(passages(make(source, seed=1), 9))


def test_batch_size_only_cuts_one_sequence_of_windows() -> None:
    source = parts(texts(50))
    assert tokens(passages(make(source, batch_size=6), 10)) == tokens(passages(make(source, batch_size=4), 15))


@pytest.mark.parametrize("number", [0, 1, 2, 5, 11, 17, 23, 30])
def test_reading_on_from_a_bookmark_is_reading_through(number: int) -> None:
    source = texts(30)
    split = parts(source[:4], [None, "", *source[4:19]], [], source[19:])
    straight = passages(make(split, sequence_length=20), 40)
    bookmark = None if number == 0 else straight[number - 1].after
    assert number == 0 or bookmark == straight[number].begin
    again = list(islice(make(split, sequence_length=20).starting_at(number, bookmark), 8))
    assert all(map(same, straight[number:], again))


def test_batches_between_a_bookmark_and_the_one_asked_for_are_passed_over() -> None:
    source = parts(texts(30))
    straight = passages(make(source), 20)
    assert same(next(make(source).starting_at(15, straight[3].after)), straight[15])
    assert same(next(make(source).starting_at(15, None)), straight[15])


def test_bookmark_is_small_and_json() -> None:
    after = passages(make(parts(texts(30))), 9)[-1].after
    assert after is not None
    assert set(after) == stream.BOOKMARK
    assert all(type(value) is int for value in after.values())


def test_held_out_short_and_invalid_documents_are_left_out_everywhere() -> None:
    source = texts(20)
    held_out = tuple(stream.digest(BYTES.encode_documents([text])) for text in (source[3], source[7]))
    mixed = [source[3], None, *source, "  \n", source[7], "ab"]
    read = documents(passages(make(parts(mixed), held_out=held_out, min_characters=3), 40))
    assert set(read) == set(source) - {source[3], source[7]} - {text for text in source if len(text) < 3}
    assert len(read) > 36


def test_document_longer_than_many_batches_is_packed_whole() -> None:
    long = "".join(map(chr, range(97, 123))) * 40
    source = parts([long, "b"])
    read = passages(make(source), 40)
    assert {long, "b"} == set(documents(read))
    for number in (3, 21, 22):
        assert same(next(make(source).starting_at(number, read[number - 1].after)), read[number])


def test_every_window_tells_its_documents() -> None:
    source = texts(30)
    split = parts(source[:12], source[12:])
    for passage in passages(make(split), 12):
        for window, told in zip(passage.batch.ids.tolist(), passage.documents(), strict=True):
            whole = [BYTES.encode(str([*split()[part]()][at])) for part, at in told]
            joined = "".join(chr(id_) if id_ < 256 else "|" for ids in whole for id_ in [*ids, END])
            assert "".join(chr(id_) if id_ < 256 else "|" for id_ in window) in joined


def test_documents_are_told_where_attention_is_to_stay_inside() -> None:
    batch = passages(make(parts(texts(30)), mask_documents=True), 3)[2].batch
    assert batch.documents is not None
    ends = (batch.ids == END).int()
    assert torch.equal(batch.documents, (ends.cumsum(dim=1) - ends).int())


@pytest.mark.parametrize("source", [[], ["", " "], [None]], ids=["empty", "blank", "invalid"])
def test_source_without_documents_is_an_error(source: list[str | None]) -> None:
    with pytest.raises(DataError, match="no document to train on"):
        passages(make(parts(source)), 1)


def test_everything_held_out_is_an_error() -> None:
    digest = stream.digest(BYTES.encode_documents(["a"]))
    with pytest.raises(DataError, match="no document to train on"):
        passages(make(parts(["a", "a"]), held_out=(digest,)), 1)


def test_no_more_than_two_blocks_are_read_ahead() -> None:
    given = 0

    def source():  # type: ignore[no-untyped-def]
        nonlocal given
        for text in texts(500):
            given += 1
            yield text

    next(make(lambda: [source], batch_size=1).starting_at(0, None))
    assert given <= 3 * 7 + 1
