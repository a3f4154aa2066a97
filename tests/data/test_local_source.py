import gzip
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from reading import json_lines, training
from test_compression import zstd

from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.sources import Splits, open_source
from gemmazero.errors import DataError, UsageError

CONFIG = PrepareConfig()


def test_folder_is_read_recursively_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/2.txt", "a/10.TXT", "a-.txt", ".hidden.txt", ".git/x.txt", "notes.md", "a.py", "c.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert training(tmp_path) == ["a-.txt", "a/10.TXT", "a/2.txt", "b.txt", "notes.md"]


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


def test_file_that_changes_after_it_was_hashed_is_an_error_whenever_it_is_read(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", ["a", "b"])
    for change in (lambda: file.write_text('{"text": "c"}\n{"text": "d"}\n'), file.unlink):
        documents = open_source(str(file), PrepareConfig()).load().training
        assert len(list(documents())) == 2
        half = documents()
        next(half)
        change()
        for reading in (documents(), half):
            with pytest.raises(DataError, match=r"changed while the source was read|a\.jsonl"):
                list(reading)


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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "txt", "jsonl.gz", "csv.zst"])
def test_file_in_utf16_is_told_as_such(tmp_path: Path, ending: str, encoding: str) -> None:
    data = '\ufeff{"text": "a"}\n{"text": "b"}\n'.encode(encoding)
    packed = {"gz": gzip.compress, "zst": zstd}.get(ending.rpartition(".")[2], bytes)(data)
    (tmp_path / f"s.{ending}").write_bytes(packed)
    with pytest.raises(DataError, match=rf's\.{ending}" is written in UTF-16') as error:
        training(tmp_path / f"s.{ending}")
    assert "iconv -f utf-16" in error.value.hint
    (tmp_path / "t.txt").write_text("one\ntwo")
    with pytest.raises(DataError, match="UTF-16"):
        training(tmp_path, document_separator="\n")


def test_file_of_another_kind_and_folder_without_text_list_the_kinds(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text("text")
    for path in (tmp_path, tmp_path / "data.xyz"):
        with pytest.raises(DataError) as error:
            open_source(str(path), CONFIG)
        assert ".csv, .json, .jsonl, .md, .parquet, .txt, each also with .gz or .zst" in error.value.hint


def test_data_folder_is_no_source_and_text_beside_a_manifest_is(tmp_path: Path) -> None:
    source = json_lines(tmp_path / "s.jsonl", ["a", "b"])
    prepare(str(source), tmp_path / "out", PrepareConfig(tokenizer="bytes"))
    with pytest.raises(DataError, match="is a data folder") as error:
        training(tmp_path / "out")
    assert error.value.hint == f"gemmazero train --data {tmp_path / 'out'}"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "manifest.json").write_text('["one", "two"]')
    assert training(tmp_path / "texts") == ["one", "two"]


@pytest.mark.parametrize("name", ["s.txt", "s.jsonl", "s.parquet", "s.csv", "s.json.gz", "s.txt.zst"])
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


def test_what_is_passed_over_in_a_folder_is_told_but_for_what_is_hidden(tmp_path: Path) -> None:
    source = json_lines(tmp_path / "s.jsonl", ["a", "b"])
    texts, elsewhere = tmp_path / "texts", tmp_path / "elsewhere"
    for folder in (texts, texts / "sub", texts / ".git", elsewhere):
        folder.mkdir()
    (elsewhere / "x.txt").write_text("not here")
    for name in ("README.md", "a.txt", "b.txt.xz", "sub/c.tsv", ".hidden.tsv", ".git/config", os.fsdecode(b"\xe9.csw")):
        (texts / name).write_bytes(os.fsencode(name))
    prepare(str(source), texts / "sub" / "ours", PrepareConfig(tokenizer="bytes"))
    (texts / "folder").symlink_to(elsewhere)
    (texts / "file.txt").symlink_to(elsewhere / "x.txt")
    (texts / "gone.txt").symlink_to("absent")
    os.mkfifo(texts / "pipe.txt")
    assert training(texts) == ["README.md", "a.txt", "not here"]
    passed_over = open_source(str(texts), CONFIG).passed_over
    assert passed_over == ("b.txt.xz", "folder", "gone.txt", "pipe.txt", "sub/c.tsv", "sub/ours", r"\xe9.csw")
    assert open_source(str(source), CONFIG).passed_over == ()


def test_kinds_of_files_may_be_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none\n")
    (tmp_path / "b.json").write_text(json.dumps(["two"]))
    json_lines(tmp_path / "c.jsonl", ["three"])
    (tmp_path / "d.md").write_text("four")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["five"]}), tmp_path / "e.parquet")
    (tmp_path / "f.txt").write_text("six<>seven")
    assert training(tmp_path) == ["one", "two", "three", "four", "five", "six<>seven"]
    assert training(tmp_path, document_separator="<>")[-2:] == ["six", "seven"]


def test_separator_is_refused_where_there_is_no_text_to_part(tmp_path: Path) -> None:
    source = json_lines(tmp_path / "s.jsonl", ["a"])
    for name in (str(source), "sample", "someone/stories"):
        with pytest.raises(UsageError, match="--document-separator is for"):
            open_source(name, PrepareConfig(document_separator="x"))


@pytest.mark.parametrize("name", ["s.csv", "s.json", "s.jsonl", "s.parquet"])
def test_wrong_column_lists_the_columns_of_every_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.csv").write_text("id,text\n1,a\n")
    (tmp_path / "s.json").write_text('[{"id": 1, "text": "a"}]')
    json_lines(tmp_path / "s.jsonl", ["a"])
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "text": ["a"]}), tmp_path / "s.parquet")
    with pytest.raises(DataError, match='no column "story"') as error:
        training(tmp_path / name, text_column="story")
    assert error.value.hint == "--text-column is one of id, text"
