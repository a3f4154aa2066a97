"""A data folder is the same to the byte however many processes tokenize, and wherever the one before was stopped."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import killed_prepare
from gemmazero.config import PrepareConfig
from gemmazero.data import corpus
from gemmazero.data.events import Continued, PrepareEvent, Sampled, StartedOver, Tokenized, TokenizerMade
from gemmazero.data.prepare import prepare, preparing
from gemmazero.data.tokenizer import Tokenizer

TINYSTORIES = Path("../shared/data/tinystories/train.jsonl")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Documents of all lengths, some of them twice."""
    chance = random.Random(0)
    texts = [f"{number} " + "é<|endoftext|> story " * chance.randrange(12) for number in range(300)]
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts + texts[::7]))
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small text has many, and needs processes."""
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 500)


def make(
    source: Path, out: Path, *, until: Callable[[PrepareEvent], bool] = lambda _: False, **options: object
) -> list[PrepareEvent]:
    """``out`` prepared with 1000 tokens a file; given up at the event that ``until`` is true of."""
    settings = {"tokenizer": "bytes", "validation_fraction": 0.3, "workers": 1} | options
    seen = []
    events = preparing(str(source), out, PrepareConfig(**settings), tokens_a_file=1000)  # type: ignore[arg-type]
    for event in events:
        seen.append(event)
        if until(event):
            events.close()
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:280"])
def test_number_of_workers_changes_no_byte(tokenizer: str, source: Path, tmp_path: Path) -> None:
    folders = []
    for workers in (1, 2, 3):
        make(source, tmp_path / f"{workers}", workers=workers, tokenizer=tokenizer)
        folders.append(contents(tmp_path / f"{workers}"))
    assert folders[0] == folders[1] == folders[2]
    assert len([name for name in folders[0] if name.startswith("train-")]) > 3
    assert len([name for name in folders[0] if name.startswith("validation-")]) > 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tokenizer": "bpe:280"},
        {"tokenizer": "bpe:0280"},
        {"keep_duplicates": True},
        {"validation_fraction": 1e-12},  # for which all is read twice
        {"tokenizer": "bpe:280", "validation_fraction": 1e-12},
    ],
    ids=["bytes", "bpe", "bpe, zero", "duplicates", "hardly any", "bpe, hardly any"],
)
def test_prepare_given_up_again_and_again_comes_to_the_same(
    options: dict[str, object], source: Path, tmp_path: Path
) -> None:
    make(source, tmp_path / "straight", **options)
    went_on = 0
    for number in range(1, 99):
        left = 6 * number

        def is_over(event: PrepareEvent) -> bool:
            nonlocal left
            left -= isinstance(event, Tokenized)
            return left < 0

        events = make(source, tmp_path / "out", until=is_over, **options)
        went_on += any(isinstance(event, Continued) for event in events)
        assert not any(isinstance(event, StartedOver) for event in events)
        if (tmp_path / "out").exists():
            break
    assert went_on >= 3
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
    assert names(tmp_path) == ["out", "stories.jsonl", "straight"]


@pytest.mark.usefixtures("small_blocks")
def test_finished_files_are_not_written_again(source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out", until=lambda event: isinstance(event, Tokenized) and event.tokens > 9000)
    unfinished = tmp_path / ".out.unfinished" / "folder"
    before = {path.name: path.stat().st_mtime_ns for path in unfinished.iterdir()}
    assert len(before) >= 6
    events = make(source, tmp_path / "out")
    assert Continued(1000 * len(before)) in events
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert before.items() <= after.items()
    (tokens, *_) = [event.tokens for event in events if isinstance(event, Tokenized)]
    assert tokens > 4000, "they are counted from the beginning"


@pytest.mark.usefixtures("small_blocks")
def test_other_options_start_over_and_say_why(source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out", until=lambda event: isinstance(event, Tokenized) and event.tokens > 9000)
    make(source, tmp_path / "straight", seed=1)
    events = make(source, tmp_path / "out", seed=1)
    assert StartedOver('its seed is "0", not "1"') in events
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


@pytest.mark.usefixtures("small_blocks")
def test_trained_tokenizer_is_kept_and_not_trained_again(source: Path, tmp_path: Path) -> None:
    bpe = {"tokenizer": "bpe:280"}
    make(source, tmp_path / "out", until=lambda event: isinstance(event, TokenizerMade), **bpe)
    events = make(source, tmp_path / "out", **bpe)
    assert not any(isinstance(event, Sampled) for event in events)
    assert TokenizerMade("bpe:280", 280) in events
    make(source, tmp_path / "straight", **bpe)
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_tokenizer_is_trained_on_the_documents_that_are_kept_for_training(tmp_path: Path) -> None:
    """Not on those held out, nor on copies; with the turn tokens after all else."""
    texts = [f"{letter * 3}{number}" for number in range(200) for letter in "xy"]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    make(path, tmp_path / "out", tokenizer="bpe:262", turn_tokens=True)
    tokenizer = Tokenizer.load(tmp_path / "out")
    assert [tokenizer.token(id_) for id_ in (259, 260, 261)] == ["<|endoftext|>", "<start_of_turn>", "<end_of_turn>"]


def test_report_counts_what_was_left_out_and_what_would_have_leaked(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for split, texts in (("train", ["a", "b", "a", "c", "c", "d"]), ("validation", ["x", "c", "a", "x"])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / "texts" / f"{split}.jsonl").write_text(lines)
    report = make(tmp_path / "texts", tmp_path / "out")[-1].report.to_json()  # type: ignore[union-attr]
    assert (report["duplicates"], report["validation_in_training"]) == (5, 2)
    assert (report["train"]["documents"], report["validation"]["documents"]) == (2, 3)


KILLED = """
import os, sys
from pathlib import Path
from gemmazero.config import PrepareConfig
from gemmazero.data import corpus
from gemmazero.data.prepare import prepare, preparing

corpus.BLOCK_BYTES = 500
config = PrepareConfig(tokenizer="bytes", validation_fraction=0.3, workers=int(sys.argv[3]))
for number, _ in enumerate(preparing(sys.argv[1], Path(sys.argv[2]), config, tokens_a_file=1000)):
    print(number, flush=True)
"""


@pytest.mark.usefixtures("small_blocks")
def test_prepare_killed_at_any_instant_comes_to_the_same(source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "straight")
    chance, kills = random.Random(0), 0
    while not (tmp_path / "out").exists():
        workers = str(1 + kills % 2)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, source, tmp_path / "out", workers], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            after = chance.randrange(1, 40) if kills < 4 else 10**9
            for line in process.stdout:
                if int(line) >= after:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            assert process.wait() in (0, -signal.SIGKILL)
        kills += process.returncode != 0
    assert kills >= 3
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
    assert names(tmp_path) == ["out", "stories.jsonl", "straight"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_commands_killed_by_the_clock_come_to_the_same_in_bounded_memory(tmp_path: Path) -> None:
    stories = TINYSTORIES if TINYSTORIES.exists() else None
    assert killed_prepare.campaign(tmp_path, stories, 100 * 10**6, kills=6, tokenizer="bytes") == []


def test_documents_are_not_held_to_the_end(tmp_path: Path) -> None:
    peaks = []
    for count in (8, 24):
        folder = tmp_path / f"long{count}"
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.txt").write_text(f"{number} " * 10**6)
        tracemalloc.start()
        prepare(str(folder), tmp_path / f"out{count}", PrepareConfig(tokenizer="bytes", workers=1))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.4 * peaks[0]


def test_sums_are_those_of_the_manifest(source: Path, tmp_path: Path) -> None:
    make(source, tmp_path / "out")
    files = json.loads((tmp_path / "out/manifest.json").read_text())["files"]
    for name, facts in files.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == facts["sha256"]
