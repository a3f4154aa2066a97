import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gemmazero.data.journal import Journal
from gemmazero.data.shard_writer import Shard

MAKING = {"source": "stories.jsonl", "revision": "sha256:1", "seed": 0, "subset": None, "validation_fraction": 0.01}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def shard(folder: Path, number: int, split: str = "train") -> Shard:
    data = bytes([number]) * 9
    name = f"{split}-{number:05d}.bin"
    (folder / name).write_bytes(data)
    return Shard(
        name=name, bytes=9, sha256=hashlib.sha256(data).hexdigest(), documents_before=number, tokens_before=10 * number
    )


@pytest.fixture
def begun(folder: Path) -> Journal:
    """Three files of one split, one of the other, and a tokenizer."""
    journal = Journal(folder, MAKING)
    (folder / "tokenizer.json").write_text("{}")
    journal.keep_tokenizer(["tokenizer.json"], 2**63)
    for number in range(3):
        journal.keep("train", shard(folder, number))
    journal.keep("validation", shard(folder, 0, "validation"))
    return journal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_that_was_kept_is_found_again_and_nothing_else(folder: Path, begun: Journal) -> None:
    before = names(folder)
    (folder / "train-00003.bin").write_bytes(b"half")
    (folder / "manifest.json").write_text("{}")
    again = Journal(folder, MAKING)
    assert (again.shards, again.tokenizer, again.held_out_below) == (begun.shards, begun.tokenizer, 2**63)
    assert (again.is_begun, again.started_over) == (True, "")
    assert names(folder) == before


def test_nothing_there_is_no_reason_to_start_over(folder: Path) -> None:
    journal = Journal(folder, MAKING)
    assert (journal.is_begun, journal.started_over, journal.held_out_below) == (False, "", None)


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("revision", None), ("version", "9"), ("subset", "b")])
def test_what_was_made_of_anything_else_is_told_and_goes(name: str, value: Any, folder: Path, begun: Journal) -> None:
    journal = Journal(folder, MAKING | {name: value})
    assert journal.started_over == f'its {name} is "{MAKING.get(name)}", not "{value}"'
    assert (journal.is_begun, names(folder)) == (False, [])


def test_files_are_believed_up_to_the_first_that_is_not_what_was_written(folder: Path, begun: Journal) -> None:
    for spoil in (lambda path: path.write_bytes(b"\1" * 8 + b"\2"), lambda path: path.unlink()):
        (folder / "train-00001.bin").write_bytes(b"\1" * 9)
        spoil(folder / "train-00001.bin")
        journal = Journal(folder, MAKING)
        assert [one.name for one in journal.shards["train"]] == ["train-00000.bin"]
        assert len(journal.shards["validation"]) == 1
        shard(folder, 2)


def test_tokenizer_that_is_not_what_was_written_is_a_reason_to_start_over(folder: Path, begun: Journal) -> None:
    (folder / "tokenizer.json").write_text("[]")
    journal = Journal(folder, MAKING)
    assert "tokenizer" in journal.started_over
    assert names(folder) == []


@pytest.mark.parametrize(
    "notes",
    ["", "{", "[]", "{}", '{"making": 1}', json.dumps({"making": MAKING, "tokenizer": {}, "shards": {"train": [1]}})],
)
def test_notes_that_cannot_be_read_are_a_reason_to_start_over(notes: str, folder: Path, begun: Journal) -> None:
    (folder.parent / "progress.json").write_text(notes)
    journal = Journal(folder, MAKING)
    assert journal.started_over == "its notes cannot be read"
    assert names(folder) == []


def test_another_share_held_out_is_remembered_and_takes_new_token_files(folder: Path, begun: Journal) -> None:
    begun.forget_shards(7)
    again = Journal(folder, MAKING)
    assert again.held_out_below == 7
    assert again.shards == {"train": [], "validation": []}
    assert names(folder) == ["tokenizer.json"]
