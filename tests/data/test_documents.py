import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.data.documents import decoded, if_unicode, no_column


@given(text=st.text())
def test_any_text_is_kept(text: str) -> None:
    assert decoded(text.encode()) == if_unicode(text) == text


@pytest.mark.parametrize("data", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_bytes_that_are_no_utf8_are_no_text(data: bytes) -> None:
    assert decoded(data) is None


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert if_unicode("a\ud800") is None


def test_columns_are_told_within_limits() -> None:
    assert no_column("text", ["id", "story"], "it").hint == "--text-column is one of id, story"
    assert len(no_column("text", ["x" * 10**6] * 1000, "it").hint) < 10_000
