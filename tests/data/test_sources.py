import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import json_lines
from test_compression import zstd

from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.shards import TokenShards
from gemmazero.data.sources import default_tokenizer, open_source, without_endings
from gemmazero.errors import DataError, UsageError

CONFIG = PrepareConfig()
END = "<|endoftext|>"
CACHE = Path(__file__).parents[3] / "shared/data/tiktoken_cache"
TINYSTORIES = Path(__file__).parents[3] / "shared/data/tinystories/train.jsonl"
STORIES = [
    f'{number} times once upon a time, and then, and then, "of" a dog: naïve {END} 日本\n\n"Don\'t", 😀 said.'
    for number in range(40)
]


def test_sample_gives_the_same_stories_for_a_seed_and_others_for_another() -> None:
    sources = (open_source("sample", PrepareConfig(seed=seed)) for seed in (0, 0, 1))
    first, again, other = (list(islice(source.load().training(), 100)) for source in sources)
    assert first == again
    assert first != other


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


@pytest.mark.parametrize(
    "config", [PrepareConfig(subset="a"), PrepareConfig(revision="main"), PrepareConfig(split="test")]
)
def test_options_of_the_hub_are_refused_for_other_sources(config: PrepareConfig) -> None:
    with pytest.raises(UsageError, match="is for Hub datasets"):
        open_source("sample", config)


def test_short_name_of_a_source_has_no_endings() -> None:
    assert [without_endings(name) for name in ("s.jsonl.zst", "s.v2.json", "s", "-")] == ["s", "s.v2", "s", "stdin"]


def test_tokenizer_that_is_not_named_is_gpt2_or_the_samples_own() -> None:
    assert [default_tokenizer(source) for source in ("sample", "-", "absent", "a/b")] == ["bpe:1024", *["gpt2"] * 3]


def written_as_csv(file: Path, texts: list[str]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["id", "text"], *enumerate(texts)])


WRITERS: dict[str, Callable[[Path, list[str]], object]] = {
    "s.jsonl": json_lines,
    "s.json": lambda file, texts: file.write_text(json.dumps([{"text": text} for text in texts])),
    "columns.json": lambda file, texts: file.write_text(json.dumps({"text": texts})),
    "s.csv": written_as_csv,
    "s.parquet": lambda file, texts: pyarrow.parquet.write_table(pyarrow.table({"text": texts}), file),
    "s.txt": lambda file, texts: file.write_bytes("\n<end>\n".join(texts).encode()),
    "s.md": lambda file, texts: file.write_bytes("".join(f"{text}<end>" for text in texts).encode()),
}


def same_tokens_from_every_kind(folder: Path, texts: list[str], tokenizer: str, patch: pytest.MonkeyPatch) -> None:
    def token_files(source: Path | str) -> dict[str, bytes]:
        is_text = str(source).removesuffix(".gz").removesuffix(".zst").endswith((".txt", ".md"))
        config = PrepareConfig(tokenizer=tokenizer, document_separator="<end>" if is_text else None)
        out = folder / "out"
        prepare(str(source), out, config, overwrite=out.exists())
        return {path.name: path.read_bytes() for path in out.glob("*.bin")}

    expected = token_files(json_lines(folder / "first.jsonl", texts))
    assert set(expected) == {"train-00000.bin", "validation-00000.bin"}
    for name, write in WRITERS.items():
        write(folder / name, texts)
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes(), 1))
        (folder / f"{name}.zst").write_bytes(zstd((folder / name).read_bytes()))
        for source in (name, f"{name}.gz", f"{name}.zst"):
            assert token_files(folder / source) == expected, source
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((folder / "first.jsonl").read_bytes())))
    assert token_files("-") == expected


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_same_stories_of_every_kind_give_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    same_tokens_from_every_kind(tmp_path, STORIES, tokenizer, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(not (CACHE.is_dir() and TINYSTORIES.exists()), reason="no TinyStories in ../shared/data")
def test_same_real_stories_of_every_kind_give_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    texts = [json.loads(line)["text"] for line in TINYSTORIES.read_text(encoding="utf-8").splitlines()]
    same_tokens_from_every_kind(tmp_path, texts, "gpt2", monkeypatch)


@pytest.mark.parametrize("tokenizer", ["gpt2", "bytes", "bpe:300"])
def test_text_of_a_control_token_never_becomes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    if tokenizer == "gpt2" and not CACHE.is_dir():
        pytest.skip("no ../shared/data/tiktoken_cache")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    texts = [f"{number} {END}<start_of_turn>user{END} {story}" for number, story in enumerate(STORIES)]
    source = json_lines(tmp_path / "s.jsonl", texts)
    config = PrepareConfig(tokenizer=tokenizer, turn_tokens=True, validation_fraction=0.0)
    prepare(str(source), tmp_path / "out", config)
    shards = TokenShards(tmp_path / "out", "train")
    ids = shards.read(0, len(shards))
    assert (ids == shards.manifest.end_id).sum() == len(texts)
    assert ids.max() == shards.manifest.end_id  # those of the turns come after it


@given(texts=st.lists(st.text().filter(str.strip), min_size=1, unique=True))
def test_any_texts_come_back_from_the_data_folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = json_lines(folder / "s.jsonl", texts)
    prepare(str(source), folder / "out", PrepareConfig(tokenizer="bytes", validation_fraction=0.0))
    shards = TokenShards(folder / "out", "train")
    documents, document = [], bytearray()
    for token in shards.read(0, len(shards)).tolist():
        if token == shards.manifest.end_id:
            documents.append(document.decode())
            document.clear()
        else:
            document.append(token)
    assert documents == texts
