import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gemmazero.data.shard_writer import ShardWriter
from gemmazero.data.shards import Manifest, SplitFacts, TokenShards, split_of
from gemmazero.errors import DataError


def write(folder: Path, ids: list[int], *, vocab_size: int = 1000, tokens_a_file: int = 8, **changes: Any) -> Manifest:
    """A data folder of one training split, written in pieces of five ids."""
    folder.mkdir()
    with ShardWriter(folder, "train", vocab_size, tokens_a_file=tokens_a_file) as writer:
        for start in range(0, len(ids), 5):
            writer.append(np.array(ids[start : start + 5], dtype=np.int64), documents=0)
    facts: dict[str, Any] = {
        "source": "test",
        "subset": None,
        "revision": None,
        "options": {"seed": 0},
        "tokenizer": "bytes",
        "tokenizer_digest": "0" * 64,
        "vocab_size": vocab_size,
        "end_id": 0,
        "round_trip": 1.0,
        "splits": {
            "train": SplitFacts(documents=1, tokens=len(ids), text_bytes=2 * len(ids)),
            "validation": SplitFacts(),
        },
        "dropped_short": 0,
        "dropped_invalid": 0,
        "duplicates": 0,
        "validation_in_training": 0,
        "files": writer.files,
    }
    manifest = Manifest(**(facts | changes))
    manifest.write(folder)
    return manifest


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    folder = tmp_path_factory.mktemp("shards") / "data"
    write(folder, list(range(100, 137)))
    return TokenShards(folder, "train")


def test_files_are_raw_little_endian_ids_of_a_fixed_number(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 258, 999], tokens_a_file=3)
    assert (tmp_path / "data/train-00000.bin").read_bytes() == b"\x01\x00\x02\x00\x02\x01"
    assert (tmp_path / "data/train-00001.bin").read_bytes() == b"\xe7\x03"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "<u2"), (65_537, "<u4")])
def test_ids_take_two_bytes_up_to_65536_of_them(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    write(tmp_path / "data", [0, vocab_size - 1], vocab_size=vocab_size)
    assert np.fromfile(tmp_path / "data/train-00000.bin", dtype).tolist() == [0, vocab_size - 1]
    assert TokenShards(tmp_path / "data", "train").read(0, 2).tolist() == [0, vocab_size - 1]


@given(st.integers(0, 37), st.integers(0, 37))
def test_reading_across_files_is_slicing(shards: TokenShards, one: int, other: int) -> None:
    start, stop = sorted((one, other))
    assert shards.read(start, stop).tolist() == list(range(100, 137))[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 38)])
def test_reading_beyond_the_split_is_an_error(shards: TokenShards, start: int, stop: int) -> None:
    with pytest.raises(IndexError):
        shards.read(start, stop)


def test_what_is_read_is_a_copy(shards: TokenShards) -> None:
    ids: NDArray[Any] = shards.read(0, 4)
    ids[:] = 0
    assert shards.read(0, 4).tolist() == [100, 101, 102, 103]


def test_shards_tell_their_counts(shards: TokenShards) -> None:
    assert (len(shards), shards.documents, shards.text_bytes) == (37, 1, 74)


def test_empty_split_has_no_files_and_no_tokens(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2])
    shards = TokenShards(tmp_path / "data", "validation")
    assert len(shards) == len(shards.read(0, 0)) == 0
    shards.verify()


def test_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = write(tmp_path / "data", [1, 2, 3])
    assert Manifest.read(tmp_path / "data") == manifest
    assert Manifest.read(tmp_path / "data").digest == manifest.digest


def test_digest_tells_every_fact_and_not_the_place(tmp_path: Path) -> None:
    digest = write(tmp_path / "one", [1, 2, 3]).digest
    assert write(tmp_path / "two", [1, 2, 3]).digest == digest
    others = [write(tmp_path / "three", [1, 2, 4]), write(tmp_path / "four", [1, 2, 3], options={"seed": 1})]
    others += [write(tmp_path / "five", [1, 2, 3], end_id=1), write(tmp_path / "six", [1, 2, 3], tokenizer_digest="1")]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_verify_accepts_what_was_written(shards: TokenShards) -> None:
    shards.verify()


def test_flipped_bit_opens_and_does_not_verify(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 3])
    data = bytearray((tmp_path / "data/train-00000.bin").read_bytes())
    data[2] ^= 1
    (tmp_path / "data/train-00000.bin").write_bytes(data)
    with pytest.raises(DataError, match=r'"train-00000.bin" is not what was written'):
        TokenShards(tmp_path / "data", "train").verify()


def test_ids_beyond_the_vocabulary_do_not_verify(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 900])
    record = json.loads((tmp_path / "data/manifest.json").read_text())
    (tmp_path / "data/manifest.json").write_text(json.dumps(record | {"vocab_size": 900}))
    shards = TokenShards(tmp_path / "data", "train")
    with pytest.raises(DataError, match="ids beyond the vocabulary"):
        shards.verify()


def test_ids_beyond_the_vocabulary_are_refused_where_they_are_read(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 900, 3])
    record = json.loads((tmp_path / "data/manifest.json").read_text())
    (tmp_path / "data/manifest.json").write_text(json.dumps(record | {"vocab_size": 900}))
    shards = TokenShards(tmp_path / "data", "train")
    assert shards.read(0, 2).tolist() == [1, 2]
    assert shards.read(3, 4).tolist() == [3]
    with pytest.raises(DataError, match="ids beyond the vocabulary"):
        shards.read(1, 3)


def test_writer_refuses_ids_beyond_the_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="id 1000, beyond its 1000 ids"):
        write(tmp_path / "data", [1, 1000])


@pytest.mark.parametrize("damage", ["shorter", "longer", "absent"])
def test_file_of_another_size_does_not_open(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "data", [1, 2, 3])
    path = tmp_path / "data/train-00000.bin"
    data = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(data[:-1] if damage == "shorter" else data + b"\0\0")
    with pytest.raises(DataError, match=r'is damaged: "train-00000.bin"'):
        TokenShards(tmp_path / "data", "train")


def test_missing_token_count_does_not_open(tmp_path: Path) -> None:
    facts = {"train": SplitFacts(tokens=4), "validation": SplitFacts()}
    write(tmp_path / "data", [1, 2, 3], splits=facts)
    with pytest.raises(DataError, match=r"3 train tokens where manifest\.json counts 4"):
        TokenShards(tmp_path / "data", "train")


def test_absent_and_foreign_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data folder") as error:
        TokenShards(tmp_path / "absent", "train")
    assert error.value.hint == f"gemmazero prepare SOURCE --out {tmp_path / 'absent'}"
    with pytest.raises(DataError, match="is not a data folder") as error:
        TokenShards(tmp_path, "train")
    assert "gemmazero prepare" in error.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32"},
        {"vocab_size": None},
        {"splits": {}},
        {"files": {"../../secret": {"bytes": 1, "sha256": ""}}},
        {"files": {"train-00000.bin": {}}},
        {"unknown": 1},
    ],
)
def test_manifest_of_another_shape_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "data", [1, 2, 3])
    path = tmp_path / "data/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match="is damaged"):
        TokenShards(tmp_path / "data", "train")


@pytest.mark.parametrize("text", ["", "{", "\xff", "[]", "null", '{"format_version": 2}'])
def test_manifest_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    write(tmp_path / "data", [1, 2, 3])
    (tmp_path / "data/manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError):
        TokenShards(tmp_path / "data", "train")


def test_unknown_split_lists_the_splits(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 3])
    with pytest.raises(DataError, match='no split "test"') as error:
        TokenShards(tmp_path / "data", "test")  # type: ignore[arg-type]
    assert error.value.hint == "one of train, validation"


@pytest.mark.parametrize("name", ["manifest.json", "train-00000.bin"])
def test_link_may_lead_within_the_folder_and_not_out_of_it(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data", [1, 2, 3])
    path = tmp_path / "data" / name
    path.rename(tmp_path / "data" / "blob")
    path.symlink_to("blob")
    assert TokenShards(tmp_path / "data", "train").read(0, 3).tolist() == [1, 2, 3]
    (tmp_path / "data" / "blob").rename(tmp_path / "blob")
    path.unlink()
    path.symlink_to(tmp_path / "blob")
    with pytest.raises(DataError, match=f'"{name}" is a link that leads out of it'):
        TokenShards(tmp_path / "data", "train")


def test_data_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 3])
    (tmp_path / "link").symlink_to("data")
    assert len(TokenShards(tmp_path / "link", "train")) == 3


def test_pipe_in_place_of_tokens_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "data", [1, 2, 3])
    shards = TokenShards(tmp_path / "data", "train")
    (tmp_path / "data/train-00000.bin").unlink()
    os.mkfifo(tmp_path / "data/train-00000.bin")
    with pytest.raises(DataError, match="cannot be read: not a regular file"):
        TokenShards(tmp_path / "data", "train")
    with pytest.raises(DataError, match="is not what was written"):
        shards.verify()


def test_file_that_the_manifest_does_not_know_does_not_verify(tmp_path: Path) -> None:
    manifest = write(tmp_path / "data", [1, 2, 3])
    (tmp_path / "data" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r'"tokenizer.json" is not what was written'):
        manifest.verify_file(tmp_path / "data" / "tokenizer.json")


def test_token_files_are_numbered_in_ascii() -> None:
    assert split_of("train-00012.bin") == "train"
    assert split_of("train-٠٠٠١٢.bin") is None
