"""A run that streams a dataset of the Hub, as a user's shell runs it: killed, and with the Hub away for a while."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from loopback_hub import COMMIT, LoopbackHub, serving
from outcome import differences, outcome

REPO = "someone/Stories"
STEPS = 60
"""Two epochs and a half."""
OPTIONS = (
    "--stream --tokenizer bytes --batch-size 8 --micro-batch-size 8 --sequence-length 32 --warmup-steps 2 "
    f"--steps {STEPS} --validate-every 20 --save-every 4 --validation-tokens 64 "
    "--precision fp32 --device cpu --threads 1"
).split()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Program = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "repo"
    folder.mkdir()
    for part in range(3):
        texts = [f"Story {part}.{number} of a dog called Bo." for number in range(60)]
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / f"train-{part:05d}-of-00003.parquet")
    with serving(folder, REPO) as hub:
        yield hub


@pytest.fixture
def program(hub: LoopbackHub, tiny_preset: Path, tmp_path: Path) -> Program:
    def start(run: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "gemmazero", "train", "--preset", tiny_preset, "--data", REPO, "--out", run]
        environment = os.environ | hub.environment(tmp_path / "home")
        return subprocess.Popen(
            [*command, *OPTIONS], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    return start


def events(run: Path) -> list[dict[str, object]]:
    file = run / "metrics.jsonl"
    return (
        [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if file.exists()
        else []
    )


def wait_for(child: "subprocess.Popen[str]", is_so: Callable[[], bool]) -> None:
    while not is_so():
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.02)


def to_the_end(child: "subprocess.Popen[str]") -> str:
    told = child.communicate()[1]
    assert child.returncode == 0, told
    return told


def test_run_killed_five_times_over_two_epochs_ends_as_the_run_never_stopped(
    hub: LoopbackHub, program: Program, tmp_path: Path
) -> None:
    to_the_end(program("straight"))
    expected, run = outcome(tmp_path / "straight"), tmp_path / "run"
    for step in (6, 17, 28, 39, 50):
        child = program("run")
        wait_for(child, lambda step=step: any(line["step"] == step for line in events(run)))
        child.send_signal(signal.SIGKILL)
        child.communicate()
    to_the_end(program("run"))
    assert differences(outcome(run), expected) == []
    assert json.loads((run / "run.json").read_text())["data"]["revision"] == COMMIT


def test_hub_that_is_away_for_a_while_is_waited_for_and_told(
    hub: LoopbackHub, program: Program, tmp_path: Path
) -> None:
    to_the_end(program("straight"))
    expected, run = outcome(tmp_path / "straight"), tmp_path / "run"
    child = program("run")
    wait_for(child, lambda: (run / "run.json").exists())
    hub.status = 503
    wait_for(child, lambda: any(line["event"] == "waiting" for line in events(run)))
    child.send_signal(signal.SIGTERM)
    told = child.communicate()[1]
    assert child.returncode == 75, told
    assert "waits for text: the Hub answered HTTP 503" in told
    child = program("run")
    wait_for(child, lambda: [line["event"] for line in events(run)].count("waiting") >= 2)
    hub.status = 0
    to_the_end(child)
    assert differences(outcome(run), expected) == []
