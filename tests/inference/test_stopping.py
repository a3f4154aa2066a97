import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.errors import UsageError
from gemmazero.inference.stopping import StopScanner

SHORT = st.text("abc", max_size=12)


def before_stop(text: str, stop: list[str]) -> tuple[str, bool]:
    """The definition: read letter by letter until a stop text is complete."""
    for end in range(1, len(text) + 1):
        complete = [len(one) for one in stop if text[:end].endswith(one)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


@given(st.lists(SHORT), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_pieces_joined_are_the_text_before_the_first_stop_however_it_was_cut(pieces, stop):
    scanner = StopScanner(stop)
    passed = "".join([*map(scanner.push, pieces), scanner.flush()])
    assert (passed, scanner.found) == before_stop("".join(pieces), stop)


def test_only_what_may_begin_a_stop_text_is_held_back():
    scanner = StopScanner(["\n\n", "THE END"])
    assert [scanner.push(piece) for piece in ("one\n", "two T", "HE", "M\n")] == ["one", "\ntwo ", "", "THEM"]
    assert scanner.flush() == "\n"


def test_nothing_passes_after_a_stop_text():
    scanner = StopScanner(["."])
    assert [scanner.push("Yes. No"), scanner.push(" more"), scanner.flush()] == ["Yes", "", ""]
    assert scanner.found


def test_an_empty_stop_text_is_refused():
    with pytest.raises(UsageError, match=r"^--stop must not be empty$"):
        StopScanner(["a", ""])


def test_a_string_is_one_stop_text():
    scanner = StopScanner("abc")
    assert scanner.push("a b c abc d") == "a b c "
    assert scanner.found
