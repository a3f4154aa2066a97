"""Hostile and broken inputs: all that GemmaZero reads, spoilt in every way we know, ends in a clear error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.corpus import CORPUS, sampled
from hostile.feeding import GROWTH_BYTES, Fed
from hostile.fuzz import TARGETS
from hostile.world import make_world

pytestmark = pytest.mark.timeout(900)  # for the sake of a busy machine
LONGEST_MESSAGE = 2000
SAMPLE = 100
PROCESSES = 2
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
READ = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    "model.safetensors", "model.safetensors.index.json", "manifest.json", "train-00000.bin", "validation-00000.bin",
    "run.json", "best.json", "metrics.jsonl", "checkpoint.json", "state.json", "history.jsonl",
    "optimizer.safetensors", "random.safetensors", "run.toml", "tiny.json", "talk.json", "data.jsonl", "story.txt",
    "stories.parquet", "stories.csv", "stories.json", "stories.jsonl.gz", "stories.jsonl.zst", "story.txt.gz",
    "train.bin",
}  # fmt: skip
HARMLESS = {case.id for case in CORPUS if case.is_harmless}


Results = dict[str, list[Fed]]
"""What was good, what was bad, and what was changed at random: what came of each."""


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return fed(tmp_path_factory.mktemp("hostile"), "--sample", SAMPLE, "--changes", 6)


@pytest.fixture(scope="module")
def all_there_are(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return fed(tmp_path_factory.mktemp("hostile"), "--changes", 200, "--seed", 1)


def fed(folder: Path, *options: object) -> Results:
    """What ``python -m hostile`` tells, by some processes at once."""
    make_world(folder / "world")
    processes, logs = [], [folder / f"{share}.jsonl" for share in range(PROCESSES)]
    for share, log in enumerate(logs):
        command = [sys.executable, "-m", "hostile", folder / "world", *options, "--share", f"{share}/{PROCESSES}"]
        with log.open("w") as file:
            processes.append(
                subprocess.Popen(
                    [str(part) for part in command],
                    cwd=Path(__file__).parent,
                    env=os.environ | ENVIRONMENT,
                    stdout=file,
                )
            )
    assert [process.wait() for process in processes] == [0] * PROCESSES
    results: Results = {"good": [], "bad": [], "changed": []}
    for line in (line for log in logs for line in log.read_text().splitlines()):
        record = json.loads(line)
        results[record.pop("group")].append(Fed(**record))
    return results


def problems(result: Fed) -> list[str]:
    """What is wrong with how a case ended."""
    message = result.message.strip()
    found = {
        "it failed": result.outcome == "failed",
        "it was read": result.outcome == "read" and result.case not in HARMLESS,
        "nothing is told": result.outcome == "refused" and not message,
        "the error is too long": result.outcome == "refused" and len(message) > LONGEST_MESSAGE,
        "the error moves the cursor": result.outcome == "refused" and not message.isprintable(),
        f"it took {result.growth_bytes >> 20} MiB": result.growth_bytes > GROWTH_BYTES,
    }
    return [f"{result.case}: {what}\n{message[-3000:]}" for what, holds in found.items() if holds]


def test_corpus_holds_at_least_two_hundred_inputs_no_two_alike() -> None:
    assert len(CORPUS) >= 200
    assert len({case.id for case in CORPUS}) == len(CORPUS)
    assert len(CORPUS) - len(HARMLESS) >= 200


def test_every_kind_of_file_that_is_read_is_in_the_corpus_and_in_its_sample() -> None:
    assert {Path(case.file).name for case in CORPUS} >= READ
    assert {Path(case.file).name for case in sampled(SAMPLE, seed=0)} >= READ
    assert {Path(target.file).name for target in TARGETS} >= READ - {
        "generation_config.json",  # is never read
        "chat_template.jinja",  # is a text like any other
        "train-00000.bin",  # as validation-00000.bin
    }


def test_what_the_corpus_spoils_is_read_as_it_is(some: Results) -> None:
    assert {result.case: result.message for result in some["good"] if result.outcome != "read"} == {}
    assert {case.entry for case in CORPUS} == {result.case.split()[0] for result in some["good"]}


def test_hostile_inputs_end_in_a_clear_error_within_limits(some: Results) -> None:
    assert len(some["bad"]) == SAMPLE
    assert [problem for result in some["bad"] for problem in problems(result)] == []


def test_random_changes_are_read_or_refused(some: Results) -> None:
    changes_end_well(some)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_hostile_inputs_end_in_a_clear_error_within_limits(all_there_are: Results) -> None:
    assert len(all_there_are["bad"]) == len(CORPUS)
    assert [problem for result in all_there_are["bad"] for problem in problems(result)] == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_very_many_random_changes_are_read_or_refused(all_there_are: Results) -> None:
    changes_end_well(all_there_are)


def changes_end_well(results: Results) -> None:
    assert len(results["changed"]) == len(TARGETS)
    assert [result.message for result in results["changed"] if result.outcome == "failed"] == []
    assert [result.case for result in results["changed"] if result.growth_bytes > GROWTH_BYTES] == []


NOTICED = """
import json, os, sys, tempfile
from pathlib import Path
from gemmazero.errors import DataError
from hostile import feeding

def fails():
    raise ValueError("a bug")

def refuses():
    raise DataError("a bad input")

def grows():
    bytearray(600 * 2**20)[::4096] = bytes(600 * 2**8)
    refuses()

def panics():
    os.write(2, b"thread 'main' panicked at lib.rs")
    refuses()

def works_on():
    while True:
        pass

def waits():
    os.mkfifo(said.with_name("pipe"))
    said.with_name("pipe").read_bytes()

feeding.SECONDS = 1
said = Path(tempfile.mkdtemp()) / "said"
for read in (fails, refuses, grows, panics, os.abort, works_on, waits):
    result = feeding.watched(read.__name__, read, said, cpu_seconds={works_on: 1, waits: 0}.get(read, 9))
    print(json.dumps([result.case, result.outcome, result.message.splitlines()[:1], result.growth_bytes >> 20]))
"""


def test_what_goes_wrong_would_be_noticed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTICED], cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True
    )
    told = {
        name: (outcome, first, growth) for name, outcome, first, growth in map(json.loads, done.stdout.splitlines())
    }
    assert told["fails"][0] == "failed"
    assert told["refuses"][:2] == ("refused", ["a bad input"])
    assert told["refuses"][2] < 100
    assert told["grows"][2] >= 600
    assert told["panics"][0] == "failed"
    assert told["abort"][:2] == ("failed", ["SIGABRT"])
    for name in ("works_on", "waits"):  # which of its limits ends a process decides the machine's load
        assert told[name][0] == "failed"
        assert told[name][1] in (["SIGXCPU"], ["SIGKILL"], ["SIGALRM"])
