from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import training

from gemmazero.data import text_reader
from gemmazero.data.text_reader import separator_bytes
from gemmazero.errors import DataError, UsageError

END = "<|endoftext|>"


def test_text_file_is_one_document_as_it_stands_but_for_the_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_bytes(b"\xef\xbb\xbfOnce\r\nupon \xef\xbb\xbf a time\n\n")
    assert training(tmp_path / "story.txt") == ["Once\r\nupon \ufeff a time\n\n"]


@pytest.mark.parametrize("ending", ["txt", "md"])
@pytest.mark.parametrize(
    ("separator", "text", "documents"),
    [
        (END, f"one{END}two{END}", ["one", "two"]),
        (END, f"\ufeffone\n{END}\ntwo\r\n{END}\r\nthree\n", ["one", "two", "three"]),
        (END, f" one {END}\n{END}\ttwo", [" one ", "", "\ttwo"]),
        (END, "one <|endoftext|", ["one <|endoftext|"]),
        (END, "", []),
        (END, END, [""]),
        (r"\n\n", "one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("\n\n", "one\n\ntwo", ["one", "two"]),
        (r"\r\n\r\n", "one\r\n\r\ntwo\n\nthree", ["one", "two\n\nthree"]),
        (r"\n\n", "one\r\n\r\ntwo\r\nlines\r\n\r\nthree\r\n", ["one", "two\r\nlines", "three"]),
        ("é", "aébèc", ["a", "bèc"]),
        ("aba", "xababay", ["x", "bay"]),
    ],
)
def test_separated_documents_lose_the_line_breaks_around_them_alone(
    tmp_path: Path, ending: str, separator: str, text: str, documents: list[str]
) -> None:
    file = tmp_path / f"s.{ending}"
    file.write_bytes(text.encode())
    assert training(file, document_separator=separator) == documents


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_separator_is_found_wherever_a_chunk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(text_reader, "_CHUNK", chunk)
    texts = ["Once", "", "upon é 日本 a", "t", "i<|endoftext>me"]
    (tmp_path / "s.txt").write_bytes(END.join(texts).encode())
    assert training(tmp_path / "s.txt", document_separator=END) == texts


def test_invalid_bytes_spoil_their_document_alone(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes(b"one<>caf\xe9<>two<>\xc3<>\xa9")
    assert training(tmp_path / "s.txt", document_separator="<>") == ["one", None, "two", None, None]


def test_text_of_a_control_token_is_text_where_it_is_no_separator(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text(f"one{END}two")
    assert training(tmp_path / "s.txt") == [f"one{END}two"]


@pytest.mark.parametrize("separator", [None, END])
def test_document_that_is_too_large_is_told_with_what_would_part_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str | None
) -> None:
    monkeypatch.setattr(text_reader, "LARGEST_TEXT", 1000)
    (tmp_path / "s.txt").write_bytes(b"x" * 1000)
    assert training(tmp_path / "s.txt", document_separator=separator) == ["x" * 1000]
    (tmp_path / "s.txt").write_bytes(b"x" * 1001)
    with pytest.raises(DataError, match=r'a document in ".*s.txt" has more than 1000 bytes') as error:
        training(tmp_path / "s.txt", document_separator=separator)
    assert error.value.hint.startswith("--document-separator")


@given(text=st.text())
def test_separator_with_its_backslashes_doubled_is_itself(text: str) -> None:
    assert separator_bytes(text.replace("\\", "\\\\")) == text.encode()


def test_escapes_of_a_separator_are_few_and_others_are_refused() -> None:
    assert separator_bytes(r"\n\r\t\0\x1e\\n") == b"\n\r\t\0\x1e\\n"
    for wrong in (r"\d", "\\", r"\x1", r"\u0041", r"\xzz"):
        with pytest.raises(UsageError, match="unknown escape"):
            separator_bytes(wrong)
    with pytest.raises(UsageError, match="not valid Unicode"):
        separator_bytes("\ud800")
