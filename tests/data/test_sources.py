import json
import os
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data.sources import Splits, open_source
from gemmazero.errors import DataError, UsageError

CONFIG = PrepareConfig()


def training(path: Path, config: PrepareConfig = CONFIG) -> list[str | None]:
    return list(open_source(str(path), config).load().training())


def json_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_text_file_is_one_document_as_it_stands_but_for_the_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_bytes(b"\xef\xbb\xbfOnce\r\nupon \xef\xbb\xbf a time\n\n")
    assert training(tmp_path / "story.txt") == ["Once\r\nupon \ufeff a time\n\n"]


def test_json_lines_give_their_text_in_order_without_blank_lines_and_byte_order_mark(tmp_path: Path) -> None:
    lines = '\ufeff{"text": "a\\n\\u00e9"}\r\n\n  \n{"text": null, "more": [1]}\n{"text": "\u2028"}'
    (tmp_path / "s.jsonl").write_bytes(lines.encode())
    assert training(tmp_path / "s.jsonl") == ["a\né", "", "\u2028"]


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary"])
def test_parquet_gives_its_text_in_order(tmp_path: Path, kind: str) -> None:
    texts = [f"text {number} é" for number in range(3000)]
    column = pyarrow.array(texts)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    table = pyarrow.table({"id": range(3000), "text": column})
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet", row_group_size=700)
    assert training(tmp_path / "s.parquet") == texts


def test_null_in_parquet_is_empty_text(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "s.parquet")
    assert training(tmp_path / "s.parquet") == ["a", ""]


def test_document_of_invalid_unicode_is_none_and_its_neighbours_stay(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.txt").write_bytes("in UTF-16".encode("utf-16"))
    (tmp_path / "c.jsonl").write_bytes(
        b'{"text": "good"}\n{"text": "\xff"}\n{"text": "\\ud800"}\n{"text": "\\ud83d\\ude00"}\n'
    )
    binary = pyarrow.array([b"good", b"\xc3("], pyarrow.binary())
    column = pyarrow.Array.from_buffers(pyarrow.string(), 2, binary.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "d.parquet")
    assert training(tmp_path) == [None, None, "good", None, None, "😀", "good", None]


def test_folder_is_read_recursively_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/2.txt", "a/10.TXT", "a-.txt", ".hidden.txt", ".git/x.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert training(tmp_path) == ["a-.txt", "a/10.TXT", "a/2.txt", "b.txt"]


def test_files_and_folders_called_validation_are_the_validation_split(tmp_path: Path) -> None:
    held_out = ["val.txt", "VALID_1.txt", "validation-00000-of-00001.txt", "validation/x.txt"]
    kept = ["train.txt", "valentine.txt", "test.txt", "my-validation.txt"]
    for name in held_out + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    splits = open_source(str(tmp_path), CONFIG).load()
    assert splits.validation is not None
    assert sorted(filter(None, splits.validation())) == sorted(held_out)
    assert sorted(filter(None, splits.training())) == sorted(kept)


def test_file_named_on_its_own_is_training_text_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("text")
    splits = open_source(str(tmp_path / "validation.txt"), CONFIG).load()
    assert splits.validation is None
    assert list(splits.training()) == ["text"]


def test_folder_of_validation_files_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("text")
    with pytest.raises(DataError, match="validation files only"):
        open_source(str(tmp_path), CONFIG)


def test_source_can_be_read_again_from_its_beginning(tmp_path: Path) -> None:
    splits: Splits = open_source(str(json_lines(tmp_path / "s.jsonl", ["a", "b"])), CONFIG).load()
    first = splits.training()
    assert next(first) == "a"
    assert list(splits.training()) == ["a", "b"]
    first.close()  # type: ignore[attr-defined]


def test_revision_tells_the_content_and_not_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "texts").mkdir(parents=True)
        (tmp_path / place / "texts" / "a.txt").write_text("text")
    first, second = (open_source(str(tmp_path / place / "texts"), CONFIG) for place in ("one", "two"))
    assert (first.name, first.revision) == (second.name, second.revision)
    assert first.name == "texts"
    (tmp_path / "two" / "texts" / "a.txt").write_text("TEXT")
    assert open_source(str(tmp_path / "two" / "texts"), CONFIG).revision != first.revision
    (tmp_path / "one" / "texts" / "a.txt").rename(tmp_path / "one" / "texts" / "validation.txt")
    (tmp_path / "one" / "texts" / "b.txt").write_text("text")
    assert open_source(str(tmp_path / "one" / "texts"), CONFIG).revision != first.revision


def test_sample_gives_the_same_stories_for_a_seed_and_others_for_another() -> None:
    sources = (open_source("sample", PrepareConfig(seed=seed)) for seed in (0, 0, 1))
    first, again, other = (list(islice(source.load().training(), 100)) for source in sources)
    assert first == again
    assert first != other


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


def test_wrong_column_lists_the_columns(tmp_path: Path) -> None:
    json_lines(tmp_path / "s.jsonl", ["a"])
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "text": ["a"]}), tmp_path / "s.parquet")
    for name in ("s.jsonl", "s.parquet"):
        with pytest.raises(DataError, match='no column "story"') as error:
            training(tmp_path / name, PrepareConfig(text_column="story"))
        assert error.value.hint == "--text-column is one of id, text"


def test_column_of_numbers_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "s.parquet")
    with pytest.raises(DataError, match="holds int64, not text"):
        training(tmp_path / "s.parquet")


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r'cannot read ".*s.parquet"'):
        training(tmp_path / "s.parquet")


def test_absent_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "stories.txt").write_text("text")
    with pytest.raises(DataError, match="no such file or folder") as error:
        open_source(str(tmp_path / "storys.txt"), CONFIG)
    assert error.value.hint == f'did you mean "{tmp_path / "stories.txt"}"?'
    with pytest.raises(DataError) as error:
        open_source("smaple", CONFIG)
    assert error.value.hint == 'did you mean "sample"?'


@pytest.mark.parametrize("source", ["texts/absent.txt", "/absent/folder", "absent", "a\0b", "x" * 5000])
def test_what_cannot_be_a_hub_id_is_a_missing_file(source: str) -> None:
    with pytest.raises(DataError):
        open_source(source, CONFIG)


def test_no_source_is_the_folder_that_one_is_in() -> None:
    with pytest.raises(UsageError, match="must not be empty") as error:
        open_source("", CONFIG)
    assert "Hub dataset id" in error.value.hint


def test_file_of_another_kind_and_folder_without_text_list_the_kinds(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text("text")
    for path in (tmp_path, tmp_path / "data.xyz"):
        with pytest.raises(DataError) as error:
            open_source(str(path), CONFIG)
        assert ".jsonl, .parquet, .txt" in error.value.hint


@pytest.mark.parametrize(
    "config", [PrepareConfig(subset="a"), PrepareConfig(revision="main"), PrepareConfig(split="test")]
)
def test_options_of_the_hub_are_refused_for_other_sources(config: PrepareConfig) -> None:
    with pytest.raises(UsageError, match="is for Hub datasets"):
        open_source("sample", config)


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


def test_table_that_grows_as_no_text_does_is_refused(tmp_path: Path) -> None:
    for name, options in {"plain": {"use_dictionary": False}, "dictionary": {}}.items():
        table = pyarrow.table({"text": ["x" * 100_000_000]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet", compression="zstd", **options)
        with pytest.raises(DataError, match=r'"text" in ".*" grows from \d+ to 1000\d+ bytes'):
            training(tmp_path / f"{name}.parquet")


def test_well_compressed_table_is_read(tmp_path: Path) -> None:
    texts = [f"{number} once upon a time" for number in range(2000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "s.parquet", compression="zstd")
    assert training(tmp_path / "s.parquet") == texts


@pytest.mark.parametrize("name", ["s.txt", "s.jsonl", "s.parquet"])
def test_pipe_is_no_source(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="not a regular file"):
        training(tmp_path / name)


def test_folder_is_read_past_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to("/dev/zero")
    (tmp_path / "d.txt").symlink_to("absent")
    (tmp_path / "e").symlink_to(tmp_path)
    assert training(tmp_path) == ["a"]
