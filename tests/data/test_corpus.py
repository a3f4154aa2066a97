import tracemalloc
from collections.abc import Iterable
from itertools import permutations

import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data import corpus
from gemmazero.data.corpus import Reading, readings
from gemmazero.data.seen import DIGEST_BYTES
from gemmazero.data.sources import Splits
from gemmazero.errors import DataError

TEXTS = [f"document {number}" for number in range(2000)]


class Read:
    """A source read as often as it takes, and all that came of it."""

    def __init__(
        self, texts: Iterable[str | None], validation: Iterable[str | None] | None = None, **options: object
    ) -> None:
        first = list(texts)
        second = None if validation is None else list(validation)
        splits = Splits("stories", lambda: iter(first), (lambda: iter(second)) if second is not None else None)
        config = PrepareConfig(**options)  # type: ignore[arg-type]
        self.times = 0
        for self.reading in readings(splits, config, None):
            self.times += 1
            self.blocks = list(self.reading.blocks())
        self.train = [text for block in self.blocks for text in block.texts["train"]]
        self.validation = [text for block in self.blocks for text in block.texts["validation"]]


@pytest.fixture(params=[2**20, 40], ids=["one block", "many blocks"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much a block holds decides nothing else."""
    monkeypatch.setattr(corpus, "BLOCK_BYTES", request.param)


pytestmark = pytest.mark.usefixtures("block_bytes")


def test_every_document_is_on_one_side_in_the_order_of_the_source() -> None:
    read = Read(TEXTS, validation_fraction=0.1)
    assert read.train == [text for text in TEXTS if text in set(read.train)]
    assert read.validation == [text for text in TEXTS if text not in set(read.train)]
    assert read.times == 1


def test_held_out_share_is_near_the_fraction() -> None:
    held_out = len(Read(TEXTS, validation_fraction=0.1).validation)
    assert 140 < held_out < 260  # 200 ± 4.5 standard deviations


def test_document_stays_on_its_side_in_another_order_and_company() -> None:
    whole = set(Read(TEXTS, validation_fraction=0.1).validation)
    part = set(Read(reversed(TEXTS[500:1500]), validation_fraction=0.1).validation)
    assert part == whole & set(TEXTS[500:1500])


def test_another_seed_holds_out_other_documents() -> None:
    first, second = (set(Read(TEXTS, validation_fraction=0.1, seed=seed).validation) for seed in (0, 1))
    assert len(first & second) < 60  # 20 expected by chance


def test_exact_copies_are_left_out_and_counted() -> None:
    read = Read(["a", "b", "a", "c", "b ", "a"], validation_fraction=0.0)
    assert read.train == ["a", "b", "c", "b "]
    assert read.reading.duplicates == 2


def test_copies_that_are_kept_are_never_on_both_sides() -> None:
    read = Read(["a", "b", "c", "d"] * 50, validation_fraction=0.3, keep_duplicates=True)
    assert len(read.train + read.validation) == 200
    assert not set(read.train) & set(read.validation)
    assert read.reading.duplicates == 0


@pytest.mark.parametrize("keep_duplicates", [False, True])
def test_documents_are_remembered_only_where_copies_are_left_out(
    keep_duplicates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 2**13)
    count, first, last = 8000, 0, 0
    splits = Splits("stories", lambda: (f"document {number:05d}" for number in range(count)))
    blocks = Reading(splits, PrepareConfig(keep_duplicates=keep_duplicates)).blocks()
    tracemalloc.start()
    try:
        for _ in blocks:
            last, _ = tracemalloc.get_traced_memory()
            first = first or last
    finally:
        tracemalloc.stop()
    remembered = last - first > DIGEST_BYTES * count / 2
    assert remembered != keep_duplicates


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_different_documents_leave_neither_side_empty(count: int, fraction: float) -> None:
    for texts in permutations(TEXTS[:count]):
        read = Read(texts, validation_fraction=fraction)
        assert read.train
        assert read.validation
        assert read.times <= 2


def test_copies_of_one_document_that_are_kept_are_all_training_text() -> None:
    for text in TEXTS[:5]:  # whatever their hashes
        read = Read([text] * 5, validation_fraction=0.5, keep_duplicates=True)
        assert (read.train, read.validation) == ([text] * 5, [])


@pytest.mark.parametrize(
    ("fraction", "held_out"), [(0.1, "9"), (0.35, "789"), (1e-9, "9"), (0.99, "123456789"), (0.0, "")]
)
@pytest.mark.parametrize("copies", [1, 3])
def test_end_of_a_lone_document_is_held_out(fraction: float, held_out: str, copies: int) -> None:
    read = Read(["0123456789"] * copies, validation_fraction=fraction)
    assert "".join(read.validation) == held_out
    assert "".join(read.train + read.validation) == "0123456789"
    assert read.times == 1


@pytest.mark.parametrize(
    ("text", "train"), [("ab\r\ncd\r\n", "ab\r\ncd"), ("a\r\nb", "a\r\n"), ("\r\nab", "\r\n"), ("a\n\r", "a\n")]
)
def test_line_end_of_two_characters_stays_on_one_side(text: str, train: str) -> None:
    read = Read([text], validation_fraction=0.9 if train == "\r\n" else 0.1)
    assert (read.train, read.validation) == ([train], [text.removeprefix(train)])


def test_document_of_one_character_is_training_text() -> None:
    read = Read(["a"], validation_fraction=0.5)
    assert (read.train, read.validation) == (["a"], [])


def test_own_validation_split_is_taken_whole_and_nothing_else_is_held_out() -> None:
    read = Read(TEXTS, ["one", "two"], validation_fraction=0.5)
    assert read.train == TEXTS
    assert read.validation == ["one", "two"]


@pytest.mark.parametrize("keep_duplicates", [False, True])
def test_training_text_loses_what_stands_in_the_sources_own_validation_split(keep_duplicates: bool) -> None:
    read = Read(["a", "b", "a", "c", "c", "d"], ["x", "c", "a", "x"], keep_duplicates=keep_duplicates)
    assert read.train == ["b", "d"]
    assert read.validation == (["x", "c", "a", "x"] if keep_duplicates else ["x", "c", "a"])
    assert read.reading.validation_in_training == 2
    assert read.reading.duplicates == (4 if keep_duplicates else 5)


def test_lone_training_document_stays_whole_beside_a_validation_split() -> None:
    read = Read(["abc"], ["d"])
    assert (read.train, read.validation) == (["abc"], ["d"])


def test_fraction_of_zero_holds_nothing_out() -> None:
    assert Read(TEXTS, validation_fraction=0.0).validation == []


def test_dropped_documents_are_counted_by_reason() -> None:
    read = Read(["long enough", "", " \n", "short", None], [None, "tiny"], min_characters=6)
    assert (read.train, read.reading.short, read.reading.invalid) == (["long enough"], 4, 2)


def test_bytes_are_counted_as_utf8() -> None:
    (validation, train) = Read(["é😀"], ["a"]).blocks
    assert validation.text_bytes == {"train": 0, "validation": 1}
    assert train.text_bytes == {"train": 2 + 4, "validation": 0}


def test_most_documents_are_of_each_split_and_count_only_what_is_kept() -> None:
    read = Read(["", "a", None, "a", "b", "", "c"], ["", "d", "e", "f"], max_documents=2)
    assert (read.train, read.validation) == (["a", "b"], ["d", "e"])
    reading = read.reading
    assert (reading.short, reading.invalid, reading.duplicates) == (2, 1, 1), "nothing is read after the last one"


def test_no_document_left_is_an_error_that_tells_why() -> None:
    with pytest.raises(DataError) as raised:
        Read(["ab", None, None], ["validation text"], min_characters=3)
    said = 'no document left of "stories": 1 shorter than 3 characters, 2 not valid UTF-8'
    assert raised.value.message == said


def test_training_text_that_is_all_in_the_validation_split_is_an_error() -> None:
    with pytest.raises(DataError, match="all others in its validation split"):
        Read(["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("texts", "least", "what", "hint"),
    [
        ([], 1, "0 empty, 0 not valid", "has text in it"),
        ([""], 1, "1 empty, 0 not valid", "has text in it"),
        ([None], 1, "0 empty, 1 not valid", "iconv"),
        (["ab"], 3, "1 shorter than 3 characters", "--min-characters"),
        ([], 3, "0 shorter than 3 characters", "has text in it"),
    ],
)
def test_no_document_left_is_answered_with_what_would_leave_one(
    texts: list[str | None], least: int, what: str, hint: str
) -> None:
    with pytest.raises(DataError) as raised:
        Read(texts, min_characters=least)
    assert what in raised.value.message
    assert hint in raised.value.hint
