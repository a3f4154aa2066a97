import errno
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data.events import Opened, Prepared, Tokenized, TokenizerMade
from gemmazero.data.prepare import default_folder, prepare, preparing
from gemmazero.data.shards import TokenShards
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import DataError, GemmaZeroError

BYTES = PrepareConfig(tokenizer="bytes", validation_fraction=0.2)
TEXTS = [f"Story {number}:\r\nBo the dog said “Hello {number * 7919}!”\n" for number in range(40)]
TINYSTORIES = Path("../shared/data/tinystories")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return json_lines(tmp_path / "stories.jsonl", TEXTS)


def json_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def documents(folder: Path, split: Any) -> list[str]:
    shards = TokenShards(folder, split)
    tokenizer, ids = Tokenizer.load(folder), shards.read(0, len(shards))
    ends = np.flatnonzero(ids == tokenizer.end_id)
    assert not len(ids) or ends[-1] == len(ids) - 1
    assert len(ends) == shards.documents
    return [tokenizer.decode(piece[:-1].tolist()) for piece in np.split(ids, ends + 1)[:-1]]


def test_documents_come_back_from_the_folder_and_end_with_the_end_id(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    train, validation = documents(tmp_path / "out", "train"), documents(tmp_path / "out", "validation")
    assert sorted(train + validation) == sorted(TEXTS)
    assert train == [text for text in TEXTS if text in train]
    assert validation


def test_same_source_gives_the_same_folder_byte_for_byte(source: Path, tmp_path: Path) -> None:
    for tokenizer in ("bytes", "bpe:300"):
        config = replace(BYTES, tokenizer=tokenizer)
        prepare(str(source), tmp_path / tokenizer / "one", config)
        prepare(str(source), tmp_path / tokenizer / "two", config)
        assert contents(tmp_path / tokenizer / "one") == contents(tmp_path / tokenizer / "two")


def test_manifest_and_its_digest_know_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        relative = json_lines(Path("stories.jsonl"), TEXTS)
        digests.add(prepare(str(relative), Path("out"), BYTES).manifest.digest)
        digests.add(prepare(str(relative.resolve()), tmp_path / place / "again", BYTES).manifest.digest)
        assert str(tmp_path).encode() not in (tmp_path / place / "out/manifest.json").read_bytes()
    assert len(digests) == 1


def test_name_that_is_no_utf8_is_spelled_portably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for name in (b"caf\xe9.txt", b"texts/caf\xe9.txt"):
        Path(os.fsdecode(name)).write_text("0123456789" * 10)
    for source, named, folder in ((b"caf\xe9.txt", r"caf\xe9.txt", r"caf\xe9"), (b"texts", "texts", "texts")):
        for is_reused in (False, True):
            report = prepare(os.fsdecode(source), None, BYTES)
            assert (report.manifest.source, report.folder) == (named, Path("data", folder))
            assert report.reused is is_reused


def test_folder_that_holds_its_own_data_folder_is_still_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path / "texts")
    json_lines(Path("stories.jsonl"), TEXTS)
    first, second = (prepare(".", None, BYTES) for _ in range(2))
    assert first.folder == Path("data/texts")
    assert (first.reused, second.reused) == (False, True)
    assert (first.passed_over, second.to_json()["passed_over"]) == (0, 1)


def test_digest_is_the_sha256_of_the_canonical_manifest(source: Path, tmp_path: Path) -> None:
    report = prepare(str(source), tmp_path / "out", BYTES)
    record = json.loads((tmp_path / "out/manifest.json").read_text())
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert report.manifest.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_kinds_of_files_give_the_same_tokens(source: Path, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "stories.parquet")
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / f"texts/{number:03d}.txt").write_bytes(text.encode())
    written = []
    for kind in (source, tmp_path / "stories.parquet", tmp_path / "texts"):
        out = tmp_path / f"out-{kind.suffix}"
        prepare(str(kind), out, BYTES)
        written.append({name: data for name, data in contents(out).items() if name.endswith(".bin")})
    assert written[0] == written[1] == written[2]
    assert set(written[0]) == {"train-00000.bin", "validation-00000.bin"}


def test_manifest_lists_size_and_sum_of_every_other_file(source: Path, tmp_path: Path) -> None:
    files = prepare(str(source), tmp_path / "out", BYTES).manifest.files
    there = contents(tmp_path / "out")
    del there["manifest.json"]
    assert {name: (facts.bytes, facts.sha256) for name, facts in files.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in there.items()
    }
    assert {"tokenizer.json", "tokenizer_config.json"} < set(files)


def test_facts_come_in_order_and_end_with_the_report(source: Path, tmp_path: Path) -> None:
    events = list(preparing(str(source), tmp_path / "out", BYTES))
    assert [type(event) for event in events] == [Opened, TokenizerMade, Tokenized, Prepared]
    _, _, tokenized, prepared = events
    assert isinstance(tokenized, Tokenized)
    assert isinstance(prepared, Prepared)
    assert tokenized.documents == len(TEXTS)
    assert tokenized.text_bytes == sum(len(text.encode()) for text in TEXTS)
    report = prepared.report.to_json()
    assert report["train"]["tokens"] + report["validation"]["tokens"] == tokenized.tokens
    assert report["bytes_per_token"] == round(tokenized.text_bytes / tokenized.tokens, 3)
    assert json.loads(json.dumps(report)) == report


def test_dropped_documents_are_reported(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "good"}\n{"text": ""}\n{"text": "\xff"}\n{"text": "also good"}\n')
    report = prepare(str(tmp_path / "s.jsonl"), tmp_path / "out", BYTES).to_json()
    assert (report["dropped_short"], report["dropped_invalid"]) == (1, 1)


def test_no_document_left_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="no document left"):
        prepare(str(tmp_path / "s.txt"), tmp_path / "data" / "out", BYTES)
    assert names(tmp_path) == ["s.txt"]


def test_nothing_held_out_means_no_validation_file(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", replace(BYTES, validation_fraction=0.0))
    assert documents(tmp_path / "out", "train") == TEXTS
    assert not list((tmp_path / "out").glob("validation*"))


def test_lone_document_is_held_out_by_position(tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("0123456789" * 10)
    prepare(str(tmp_path / "play.txt"), tmp_path / "out", replace(BYTES, validation_fraction=0.1))
    assert documents(tmp_path / "out", "train") == ["0123456789" * 9]
    assert documents(tmp_path / "out", "validation") == ["0123456789"]


def test_tokenizer_is_trained_on_training_text_alone(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/train.txt").write_text("abab " * 100)
    (tmp_path / "texts/validation.txt").write_text("xyxyxyxy " * 1000)
    prepare(str(tmp_path / "texts"), tmp_path / "out", replace(BYTES, tokenizer="bpe:260"))
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert len(tokenizer.encode("abab")) < 4
    assert len(tokenizer.encode("xyxy")) == 4


def test_sample_has_its_own_tokenizer_and_no_story_twice(tmp_path: Path) -> None:
    report = prepare("sample", tmp_path / "out", PrepareConfig(max_documents=500))
    assert report.manifest.tokenizer == "bpe:1024"
    assert report.manifest.vocab_size == 1024
    train, validation = documents(tmp_path / "out", "train"), documents(tmp_path / "out", "validation")
    assert validation
    assert len(set(train + validation)) == len(train + validation) == 500


def test_foreign_tokenizer_is_measured_and_known_by_its_content(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "first", replace(BYTES, tokenizer="bpe:300"))
    config = replace(BYTES, tokenizer=str(tmp_path / "first"))
    report = prepare(str(source), tmp_path / "second", config)
    assert report.manifest.round_trip == 1.0
    assert report.manifest.options["tokenizer"] == "first"
    assert contents(tmp_path / "first")["train-00000.bin"] == contents(tmp_path / "second")["train-00000.bin"]
    assert prepare(str(source), tmp_path / "second", config).reused
    prepare(str(source), tmp_path / "first", replace(BYTES, tokenizer="bpe:280"), overwrite=True)
    with pytest.raises(DataError, match="another tokenizer"):
        prepare(str(source), tmp_path / "second", config)


def test_same_command_again_finds_its_folder_and_changes_nothing(source: Path, tmp_path: Path) -> None:
    first = prepare(str(source), tmp_path / "out", BYTES)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    second = prepare(str(source), tmp_path / "out", BYTES)
    assert (first.reused, second.reused) == (False, True)
    assert second.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_other_options_are_refused_by_name_and_replaced_only_when_asked(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match='was prepared with seed "0", not "1"') as error:
        prepare(str(source), tmp_path / "out", replace(BYTES, seed=1))
    assert "--overwrite" in error.value.hint
    assert contents(tmp_path / "out") == before
    assert prepare(str(source), tmp_path / "out", replace(BYTES, seed=1), overwrite=True).manifest.options["seed"] == 1
    assert names(tmp_path) == ["out", "stories.jsonl"]


def test_folder_that_another_command_finished_meanwhile_is_not_replaced(source: Path, tmp_path: Path) -> None:
    late = preparing(str(json_lines(tmp_path / "other.jsonl", TEXTS[::-1])), tmp_path / "out", BYTES)
    next(late)
    prepare(str(source), tmp_path / "out", BYTES)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match="is there by now") as error:
        list(late)
    assert error.value.hint
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == ["other.jsonl", "out", "stories.jsonl"]


def test_what_somebody_made_while_the_text_was_read_stays(source: Path, tmp_path: Path) -> None:
    events = preparing(str(source), tmp_path / "out", replace(BYTES, tokenizer="bpe:280"))
    assert any(isinstance(event, TokenizerMade) for event in events)  # as far as that
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(DataError, match="is not a data folder"):
        list(events)
    assert names(tmp_path / "out") == ["thesis.txt"]


def test_folder_that_a_killed_overwrite_had_moved_aside_is_replaced_only_when_asked(
    source: Path, tmp_path: Path
) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    before = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.replaced")  # between the two renames of whole_folder
    with pytest.raises(DataError, match="is there by now"):
        prepare(str(source), tmp_path / "out", replace(BYTES, seed=1))
    assert contents(tmp_path / "out") == before
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    prepare(str(source), tmp_path / "out", replace(BYTES, seed=1), overwrite=True)
    assert contents(tmp_path / "out") != before
    assert names(tmp_path) == ["out", "stories.jsonl"]


def test_changed_source_is_refused(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    json_lines(source, [*TEXTS, "one more"])
    with pytest.raises(DataError, match="was prepared with revision"):
        prepare(str(source), tmp_path / "out", BYTES)


def test_folder_with_a_manifest_of_something_else_is_never_replaced(source: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text('{"name": "my site", "icons": []}')
    for _ in range(2):
        before = contents(site)
        for overwrite in (False, True):
            with pytest.raises(DataError, match="is not a data folder") as error:
                prepare(str(source), site, BYTES, overwrite=overwrite)
            assert error.value.hint
        assert contents(site) == before
        (site / "index.html").write_text("precious")


def test_data_folder_that_holds_something_else_too_is_not_replaced(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    (tmp_path / "out/notes.md").write_text("precious")
    with pytest.raises(DataError, match=r"notes\.md"):
        prepare(str(source), tmp_path / "out", BYTES, overwrite=True)
    assert (tmp_path / "out/notes.md").read_text() == "precious"


@pytest.mark.parametrize("tokenizer", ["gpt3", "bpe:0", "bpe:many", "no/such/tokenizer.json"])
def test_wrong_tokenizer_is_told_before_the_source_is_looked_for(tokenizer: str, tmp_path: Path) -> None:
    events = preparing(str(tmp_path / "absent.txt"), tmp_path / "out", replace(BYTES, tokenizer=tokenizer))
    with pytest.raises(GemmaZeroError, match="tokenizer"):
        next(events)


@pytest.mark.parametrize("name", ["train-00000.bin", "validation-00000.bin", "tokenizer.json", "tokenizer_config.json"])
def test_folder_with_a_changed_byte_is_not_reused(name: str, source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    file = tmp_path / "out" / name
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=f'"{name}" is not what was written') as error:
        prepare(str(source), tmp_path / "out", BYTES)
    assert "--overwrite" in error.value.hint


def test_contents_of_a_large_folder_are_not_read_again_and_its_sizes_are(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = prepare(str(source), tmp_path / "out", BYTES).manifest.splits["train"].tokens * 2
    monkeypatch.setattr("gemmazero.data.prepare.MOST_VERIFIED", held)
    file = tmp_path / "out/train-00000.bin"
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    assert prepare(str(source), tmp_path / "out", BYTES).reused
    file.write_bytes(data[:-2])
    with pytest.raises(DataError, match="is damaged"):
        prepare(str(source), tmp_path / "out", BYTES)


@pytest.mark.parametrize("change", [{"keep_duplicates": True}, {"max_documents": 39}, {"min_characters": 2}])
def test_every_option_that_decides_tokens_is_a_difference(change: dict[str, Any], source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    with pytest.raises(DataError, match=f'was prepared with {next(iter(change))} "'):
        prepare(str(source), tmp_path / "out", replace(BYTES, **change))
    assert prepare(str(source), tmp_path / "out", replace(BYTES, workers=7)).reused


def test_damaged_folder_is_not_reused_and_can_be_replaced(source: Path, tmp_path: Path) -> None:
    prepare(str(source), tmp_path / "out", BYTES)
    (tmp_path / "out/validation-00000.bin").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged"):
        prepare(str(source), tmp_path / "out", BYTES)
    (tmp_path / "out/manifest.json").write_text("{")
    prepare(str(source), tmp_path / "out", BYTES, overwrite=True)
    assert documents(tmp_path / "out", "validation")


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_or_file_of_another_kind_is_never_replaced(source: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("precious")
    for out in (tmp_path / "home", source):
        with pytest.raises(DataError, match="is not a data folder"):
            prepare(str(source), out, BYTES, overwrite=overwrite)
    assert (tmp_path / "home/thesis.txt").read_text() == "precious"


def test_empty_folder_is_filled(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    prepare(str(source), tmp_path / "out", BYTES)
    assert documents(tmp_path / "out", "train")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("moment", [Opened, TokenizerMade, Tokenized])
def test_interruption_at_any_moment_leaves_things_as_they_were(
    source: Path, tmp_path: Path, moment: type, overwrite: bool
) -> None:
    if overwrite:
        prepare(str(source), tmp_path / "out", BYTES)
    before = contents(tmp_path / "out") if overwrite else {}
    events = preparing(str(source), tmp_path / "out", replace(BYTES, seed=1), overwrite=overwrite)
    while not isinstance(next(events), moment):
        pass
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert names(tmp_path) == (["out", "stories.jsonl"] if overwrite else ["stories.jsonl"])
    if overwrite:
        assert contents(tmp_path / "out") == before


def test_closing_the_generator_leaves_nothing(source: Path, tmp_path: Path) -> None:
    events = preparing(str(source), tmp_path / "out", BYTES)
    while not isinstance(next(events), Tokenized):
        pass
    events.close()
    assert names(tmp_path) == ["stories.jsonl"]


def test_full_disk_is_told_and_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GemmaZeroError, match="the disk is full") as error:
        prepare(str(source), tmp_path / "out", BYTES)
    assert error.value.hint
    assert names(tmp_path) == ["stories.jsonl"]


def test_place_that_cannot_be_written_is_told(source: Path) -> None:
    with pytest.raises(GemmaZeroError, match="cannot write"):
        prepare(str(source), source / "out", BYTES)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("roneneldan/TinyStories", "data/TinyStories"),
        ("someone/model-2.5", "data/model-2.5"),
        ("../texts/stories.jsonl", "data/stories"),
        ("stories.v2.parquet", "data/stories.v2"),
        ("texts/", "data/texts"),
        ("sample", "data/sample"),
    ],
)
def test_default_folder_is_named_after_the_source(source: str, folder: str) -> None:
    assert default_folder(source) == Path(folder)


def test_default_folder_of_the_current_folder_is_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "texts")
    assert default_folder(".") == Path("data/texts")
    monkeypatch.chdir(tmp_path / "texts" / "inner")
    assert default_folder("..") == Path("data/texts")


def test_documented_reader_reads_the_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[2] / "docs" / "data-folder.md"
    code = re.search(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    prepare(str(source), tmp_path / "data/stories", BYTES)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[1], names)
    expected = documents(tmp_path / "data/stories", "train")
    assert [bytes(piece[:-1].astype("u1")).decode() for piece in names["documents"]] == expected


@pytest.mark.skipif(not TINYSTORIES.exists(), reason="no TinyStories in ../shared/data")
def test_tinystories_keep_their_own_validation_split(tmp_path: Path) -> None:
    prepare(str(TINYSTORIES), tmp_path / "out", replace(BYTES, validation_fraction=0.5))
    for split in ("train", "validation"):
        lines = (TINYSTORIES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert documents(tmp_path / "out", split) == [json.loads(line)["text"] for line in lines]
