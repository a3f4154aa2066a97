import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import training

from gemmazero.data import json_reader
from gemmazero.data.documents import Layout
from gemmazero.errors import DataError


def test_json_lines_give_their_text_in_order_without_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    lines = '\ufeff{"text": "a\\n\\u00e9"}\r\n\n  \n{"text": null, "more": [1]}\n{"text": "\u2028"}'
    (tmp_path / "s.jsonl").write_bytes(lines.encode())
    assert training(tmp_path / "s.jsonl") == ["a\né", "", "\u2028"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', 'line 2 of ".*s.jsonl" is not JSON'),
        ('["text"]', "line 2 of .* is not a JSON object"),
        ('{"text": 7}', '"text" in line 2 of .* is not text: a number'),
        ("[" * 100_000, "line 2 of .* is not JSON"),
    ],
)
def test_line_that_is_no_document_is_named_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "s.jsonl").write_text('{"text": "a"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        training(tmp_path / "s.jsonl")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)


@given(text=st.text(st.characters(exclude_categories=())), others=st.dictionaries(st.text(max_size=5), _VALUES))
def test_line_means_what_the_standard_library_reads_in_it(text: str, others: dict[str, object]) -> None:
    line = json.dumps(others | {"text": text}).encode() + b"\n"
    assert list(json_reader.read_json_lines(io.BytesIO(line), "it", Layout("text"))) == [
        None if any("\ud800" <= letter <= "\udfff" for letter in json.loads(line)["text"]) else text
    ]


def test_of_a_key_given_twice_the_last_value_counts() -> None:
    line = io.BytesIO(b'{"text": "a", "text": "b"}\n{"text": 1, "text": "b", "more": NaN}')
    assert list(json_reader.read_json_lines(line, "it", Layout("text"))) == ["b", "b"]


def test_line_of_json_beyond_the_limit_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    good = json.dumps({"text": "a" * 1000}).encode()
    (tmp_path / "s.jsonl").write_bytes(good + b"\n" + b'{"text": "' + b"x" * 2**24 + b'"}\n')
    with pytest.raises(DataError, match=r'line 2 of ".*s.jsonl" holds too much'):
        training(tmp_path / "s.jsonl")


def test_line_of_very_many_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "a", "b": [' + b"[]," * 2**20 + b"0]}\n")
    with pytest.raises(DataError, match=r'line 1 of ".*s.jsonl" holds too much'):
        training(tmp_path / "s.jsonl")


def test_last_line_may_lack_its_end(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "a"}\n{"text": "b"}')
    assert training(tmp_path / "s.jsonl") == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        '["a", "b\\n\\u00e9", ""]',
        '[{"text": "a", "id": 1}, {"id": [], "text": "b\\né"}, {"text": null}]',
        '\ufeff [ {"text":"a"}\n,{"text":"b\\né"},"" ]\n',
        '{"id": [1, 2, 3], "text": ["a", "b\\né", null]}',
        '{"text": "a"}\n{"text": "b\\né"}\n{"text": ""}\n',
        '["a"] ["b\\né"] {"text": [""]}',
        json.dumps([{"text": "a"}, {"text": "b\né"}, {"text": ""}], indent=2),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 2**16])
def test_json_is_a_list_of_objects_or_texts_or_objects_or_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, chunk: int
) -> None:
    monkeypatch.setattr(json_reader, "_CHUNK", chunk)
    (tmp_path / "s.json").write_bytes(content.encode())
    assert training(tmp_path / "s.json") == ["a", "b\né", ""]


@given(texts=st.lists(st.text()), indent=st.sampled_from([None, 1]), is_ascii=st.booleans())
def test_any_list_of_texts_comes_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], indent: int | None, is_ascii: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps([{"text": text} for text in texts], indent=indent, ensure_ascii=is_ascii), "utf-8")
    assert training(file) == texts


def test_text_that_is_no_unicode_in_json_is_none_and_its_neighbours_stay(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b'["good", "\xff", "\\ud800", "\xc3", {"text": "\xf0\x9f\x98\x80"}]')
    assert training(tmp_path / "s.json") == ["good", None, None, None, "😀"]


@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_place_where_json_breaks_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_reader, "_CHUNK", chunk)
    for content, place in (
        ('["é", "b" 7]', 11),
        ('[{"text": "a"},\n{"text" "b"}]', 25),
        ('["a", "b"', 10),
        ('["a", "b', 7),
    ):
        (tmp_path / "s.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=f"is not JSON: .*, character {place}$"):
            training(tmp_path / "s.json")


@pytest.mark.parametrize("content", ["", " \n", "[]", "[ ]", '{"text": []}', "\ufeff"])
def test_json_may_hold_no_documents(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_bytes(content.encode())
    assert training(tmp_path / "s.json") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a"', '"," is missing'),
        ('["a",]', "is not JSON"),
        ('["a" "b"]', '"," is missing'),
        ('["a]', "is not JSON: Unterminated string, character 2$"),
        ("text", "is not JSON"),
        ('["a", 7]', 'item 2 of ".*s.json" is not text: a number'),
        ('[["a"]]', "is not text: a list"),
        ('[{"text": ["a"]}]', "item 1 .* is not text: a list"),
        ('{"text": {"0": "a"}}', "is not text: an object"),
        ('{"text": ["a", 7]}', "is not text: a number"),
        ("[" * 100_000, "is not JSON"),
        ('[{"text": "a", "n": ' + "9" * 5000 + "}]", "is not JSON"),
    ],
)
def test_json_that_is_no_list_of_texts_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DataError, match=message):
        training(tmp_path / "s.json")


@pytest.mark.parametrize("content", ['["%s"]', '{"text": ["%s"]}', '["a", {"text": "b", "more": "%s"}]'])
def test_one_value_of_json_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(json_reader, "LARGEST_RECORD", 2000)
    monkeypatch.setattr(json_reader, "_CHUNK", 100)
    (tmp_path / "s.json").write_text(content % ("x" * 1900))
    assert "x" * 1900 in training(tmp_path / "s.json") or "more" in content
    (tmp_path / "s.json").write_text(content % ("x" * 4000))
    with pytest.raises(DataError, match=r'a part of ".*s.json" holds too much'):
        training(tmp_path / "s.json")


def test_list_of_json_may_be_of_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "LARGEST_RECORD", 2000)
    monkeypatch.setattr(json_reader, "_CHUNK", 100)
    texts = [f"story {number} " + "x" * (number % 300) for number in range(500)]
    (tmp_path / "s.json").write_text(json.dumps(texts))
    assert training(tmp_path / "s.json") == texts


def test_value_of_very_many_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b'[{"text": "a", "b": [' + b"[]," * 2**20 + b"0]}]")
    with pytest.raises(DataError, match="holds too much"):
        training(tmp_path / "s.json")
