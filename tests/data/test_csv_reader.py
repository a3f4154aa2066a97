import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import training

from gemmazero.data import csv_reader
from gemmazero.errors import DataError


def test_csv_gives_the_column_of_each_row_exactly(tmp_path: Path) -> None:
    rows = b'\xef\xbb\xbfid,text\r\n1,one\r\n2,"two, ""quoted""\nand\r\n\r\nmore "\r\n\r\n3, \xc3\xa9 \n4,\n5,"last"'
    (tmp_path / "s.csv").write_bytes(rows)
    assert training(tmp_path / "s.csv") == ["one", 'two, "quoted"\nand\r\n\r\nmore ', " é ", "", "last"]


@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_any_texts_that_the_csv_module_writes_come_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "id"], *([text, 1] for text in texts)])
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(written.getvalue().encode())
    assert training(file) == texts


def test_invalid_bytes_in_csv_spoil_their_row_alone(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b'id,text\n\xff,good\n2,caf\xe9\n3,"\xc3\n"\n4,good\n')
    assert training(tmp_path / "s.csv") == ["good", None, None, "good"]


def test_field_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("text\n" + "x" * 1_000_000 + "\n")
    assert training(tmp_path / "s.csv") == ["x" * 1_000_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,once, upon\n", "the row that ends on line 2 of .* has 3 fields, not 2"),
        ("id,text\n1\n", "has 1 fields, not 2"),
        ('text\n"once', "line 2 of .* is not CSV: unexpected end"),
        ('text\n"once" upon\n', "line 2 of .* is not CSV"),
        ("", 'no column "text"'),
        ("text\rone\rtwo\r", "line 1 of .* is not CSV: a carriage return without a line feed, outside of quotes$"),
    ],
)
def test_csv_that_loses_text_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        training(tmp_path / "s.csv")


def test_hints_of_csv_say_what_mends_it(tmp_path: Path) -> None:
    for content, hint in (("", "it has no columns"), ("text\rone\r", r"tr '\r' '\n'"), ('text\n"one" two', "commas")):
        (tmp_path / "s.csv").write_text(content, newline="")
        with pytest.raises(DataError) as error:
            training(tmp_path / "s.csv")
        assert hint in error.value.hint


@pytest.mark.parametrize("row", ["x" * 1001, '"' + "x\n" * 501, '"\n",' * 201, ",\n" * 3 + "," * 1001])
def test_row_of_csv_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    monkeypatch.setattr(csv_reader, "LARGEST_RECORD", 1000)
    (tmp_path / "s.csv").write_text("id,text\n" + "1,small\n" * 500 + row)
    with pytest.raises(DataError, match=r'a row of ".*s.csv" has more than 1000 bytes|has \d+ fields'):
        training(tmp_path / "s.csv")
