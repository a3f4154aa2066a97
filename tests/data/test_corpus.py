from collections.abc import Iterable
from itertools import permutations

import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data.corpus import Corpus, survey
from gemmazero.data.sources import Splits
from gemmazero.errors import DataError

TEXTS = [f"document {number}" for number in range(2000)]


def surveyed(texts: Iterable[str | None], validation: Iterable[str | None] | None = None, **options: object) -> Corpus:
    first = list(texts)
    second = None if validation is None else list(validation)
    own = (lambda: iter(second)) if second is not None else None
    return survey(Splits("stories", lambda: iter(first), own), PrepareConfig(**options))  # type: ignore[arg-type]


def split(corpus: Corpus, side: str) -> list[str]:
    return [text for at, text in corpus.documents() if at == side]


def test_every_document_is_on_one_side_in_the_order_of_the_source() -> None:
    corpus = surveyed(TEXTS, validation_fraction=0.1)
    assert [text for _, text in corpus.documents()] == TEXTS
    assert not set(split(corpus, "train")) & set(split(corpus, "validation"))


def test_held_out_share_is_near_the_fraction() -> None:
    held_out = len(split(surveyed(TEXTS, validation_fraction=0.1), "validation"))
    assert 140 < held_out < 260  # 200 ± 4.5 standard deviations


def test_document_stays_on_its_side_in_another_order_and_company() -> None:
    whole = set(split(surveyed(TEXTS, validation_fraction=0.1), "validation"))
    part = set(split(surveyed(reversed(TEXTS[500:1500]), validation_fraction=0.1), "validation"))
    assert part == whole & set(TEXTS[500:1500])


def test_another_seed_holds_out_other_documents() -> None:
    first, second = (set(split(surveyed(TEXTS, validation_fraction=0.1, seed=seed), "validation")) for seed in (0, 1))
    assert len(first & second) < 60  # 20 expected by chance


def test_copies_are_never_on_both_sides() -> None:
    corpus = surveyed(["a", "b", "c", "d"] * 50, validation_fraction=0.3)
    assert not set(split(corpus, "train")) & set(split(corpus, "validation"))


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_different_documents_leave_neither_side_empty(count: int, fraction: float) -> None:
    for texts in permutations(TEXTS[:count]):
        corpus = surveyed(texts, validation_fraction=fraction)
        assert split(corpus, "train")
        assert split(corpus, "validation")


def test_copies_of_one_document_are_all_training_text() -> None:
    assert split(surveyed(["same"] * 5, validation_fraction=0.5), "validation") == []


@pytest.mark.parametrize(
    ("fraction", "held_out"), [(0.1, "9"), (0.35, "789"), (1e-9, "9"), (0.99, "123456789"), (0.0, "")]
)
def test_end_of_a_lone_document_is_held_out(fraction: float, held_out: str) -> None:
    corpus = surveyed(["0123456789"], validation_fraction=fraction)
    assert "".join(split(corpus, "validation")) == held_out
    assert "".join(text for _, text in corpus.documents()) == "0123456789"


def test_document_of_one_character_is_training_text() -> None:
    assert list(surveyed(["a"], validation_fraction=0.5).documents()) == [("train", "a")]


def test_own_validation_split_is_taken_whole_and_nothing_else_is_held_out() -> None:
    corpus = surveyed(TEXTS, ["one", "two"], validation_fraction=0.5)
    assert split(corpus, "train") == TEXTS
    assert split(corpus, "validation") == ["one", "two"]


def test_lone_training_document_stays_whole_beside_a_validation_split() -> None:
    assert list(surveyed(["abc"], ["d"]).documents()) == [("train", "abc"), ("validation", "d")]


def test_fraction_of_zero_holds_nothing_out() -> None:
    assert split(surveyed(TEXTS, validation_fraction=0.0), "validation") == []


def test_dropped_documents_are_counted_by_reason() -> None:
    corpus = surveyed(["long enough", "", " \n", "short", None], [None, "tiny"], min_characters=6)
    assert (corpus.kept, corpus.dropped_short, corpus.dropped_invalid) == (1, 4, 2)
    assert corpus.text_bytes == len("long enough")


def test_bytes_are_counted_as_utf8() -> None:
    assert surveyed(["é😀"], ["a"]).text_bytes == 2 + 4 + 1


def test_most_documents_are_of_each_split_and_count_only_what_is_kept() -> None:
    corpus = surveyed(["", "a", None, "b", "c"], ["", "d", "e", "f"], max_documents=2)
    assert [text for _, text in corpus.documents()] == ["a", "b", "d", "e"]


def test_no_document_left_is_an_error_that_tells_why() -> None:
    with pytest.raises(DataError) as raised:
        surveyed(["ab", None, None], ["validation text"], min_characters=3)
    said = 'no document left of "stories": 1 shorter than 3 characters, 2 not valid UTF-8'
    assert raised.value.message == said


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
        surveyed(texts, min_characters=least)
    assert what in raised.value.message
    assert hint in raised.value.hint
