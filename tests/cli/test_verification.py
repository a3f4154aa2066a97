import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gemmazero.cli.app import app
from gemmazero.cli.verification import show
from gemmazero.errors import CheckpointError, UsageError
from gemmazero.storage.checkpoints import Inspection
from gemmazero.training.settings import Request
from program import run_forked
from tiny_run import SETTINGS, train


def inspection(step: int, *, reason: str = "", size: int = 2_500_000) -> Inspection:
    return Inspection(step=step, folder=Path(f"runs/a b/checkpoints/step-{step:08d}"), bytes=size, reason=reason)


GOOD = (inspection(2000), inspection(1000))
TORN = inspection(
    3000, size=0, reason='"runs/a b/checkpoints/step-00003000" is damaged: "model.safetensors" is missing'
)


def test_table_has_step_size_and_state_of_each_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    show(GOOD, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["step", "size", "state"], ["2,000", "2.5", "MB", "good"], ["1,000", "2.5", "MB", "good"]]


def test_damaged_checkpoint_is_named_with_its_reason_and_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match=r"^1 of 3 checkpoints is damaged$") as raised:
        show((TORN, *GOOD), as_json=False)
    assert raised.value.hint == "gemmazero resume 'runs/a b' goes on from step 2,000, the newest good one"
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["3,000", "?", "damaged:", '"model.safetensors"', "is", "missing"]


def test_run_without_a_good_checkpoint_promises_nothing() -> None:
    with pytest.raises(CheckpointError, match=r"^1 of 1 checkpoint is damaged$") as raised:
        show([TORN], as_json=True)
    assert "resume" not in raised.value.hint


def test_json_is_a_line_each_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError):
        show((TORN, GOOD[0]), as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"checkpoint": str(TORN.folder), "step": 3000, "bytes": 0, "good": False, "reason": TORN.reason},
        {"checkpoint": str(GOOD[0].folder), "step": 2000, "bytes": 2_500_000, "good": True, "reason": ""},
    ]


def test_row_is_printed_before_the_next_checkpoint_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    def looking() -> Iterator[Inspection]:
        yield GOOD[0]
        assert "2,000" in capsys.readouterr().out
        yield GOOD[1]

    show(looking(), as_json=False)


@pytest.fixture
def finished_run(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> Path:
    """A run with the checkpoints of three steps."""
    settings = SETTINGS | {"steps": 3, "save_every": 1, "validate_every": 3, "keep": 3}
    train(Request(out=tmp_path / "a run", preset=str(tiny_preset), data=str(tiny_data), settings=settings))
    return tmp_path / "a run"


def test_verify_looks_at_every_checkpoint_and_does_nothing_else(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    told = CliRunner().invoke(app, ["resume", "a run", "--verify", "--json"])
    assert told.exit_code == 0, told.exception
    records = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(record["step"], record["good"]) for record in records] == [(3, True), (2, True), (1, True)]
    for record in records:
        files = [path for path in Path(record["checkpoint"]).rglob("*") if path.is_file()]
        content = sum(path.stat().st_size for path in files if path.name != "checkpoint.json")
        assert record["bytes"] == content
    assert {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")} == before


def test_program_that_finds_damage_exits_with_one(finished_run: Path, tmp_path: Path) -> None:
    weights = finished_run / "checkpoints" / "step-00000002" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    done = run_forked(tmp_path, "resume", "--verify", "a run")
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["state", "good", "written", "good"]
    assert done.stderr.splitlines() == [
        "error: 1 of 3 checkpoints is damaged",
        "hint: gemmazero resume 'a run' goes on from step 3, the newest good one",
    ]


@pytest.mark.parametrize("option", [["--steps", "9"], ["--data", "elsewhere"], ["--max-time", "1h"]])
def test_verify_takes_nothing_that_changes_a_run(option: list[str]) -> None:
    told = CliRunner().invoke(app, ["resume", "--verify", *option])
    assert isinstance(told.exception, UsageError)
    assert option[0] in told.exception.message
