import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemmazero.errors import CheckpointError
from gemmazero.storage.checkpoint import Checkpoint, list_checkpoints
from gemmazero.storage.state_check import check_state
from gemmazero.training.events import Rejected
from gemmazero.training.settings import Request
from tiny_run import SETTINGS, train

STATE, HISTORY = "training/state.json", "training/history.jsonl"


@pytest.fixture(scope="session")
def run(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state") / "run"
    train(Request(out=folder, preset=str(tiny_preset), data=str(tiny_data), settings=SETTINGS), stop_after=4)
    return folder


def resealed(folder: Path) -> Checkpoint:
    """The checkpoint with sums that fit what is in it, as somebody who means harm would make it."""
    manifest = json.loads((folder / "checkpoint.json").read_text())
    del manifest["sha256"]
    for group in manifest["files"].values():
        for name in group:
            content = (folder / name).read_bytes()
            group[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps({**manifest, "sha256": seal}, indent=1) + "\n")
    checkpoint = Checkpoint.open(folder)
    checkpoint.verify()
    return checkpoint


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Callable[[str, str], Checkpoint]:
    def change(name: str, content: str) -> Checkpoint:
        newest = list_checkpoints(run / "checkpoints")[-1]
        folder = shutil.copytree(newest, tmp_path / newest.name)
        (folder / name).write_text(content)
        return resealed(folder)

    return change


def test_state_that_was_saved_is_sound(run: Path) -> None:
    for folder in list_checkpoints(run / "checkpoints"):
        check_state(Checkpoint.open(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"step": 3}, {"step": "4"}, {"step": True}, {"batch": -1}, {"batch": 10**30}, {"batch": "4"}, {"tokens": None},
        {"validated_step": 1.5}, {"skips": []}, {"skipped_in_a_row": "1"}, {"rollbacks": -1}, {"loss": "low"},
        {"best": {"step": "3", "loss": 1.0}}, {"best": {"step": 10**400, "loss": 1.0}}, {"best": {"step": 3}},
        {"best": 3},
        {"scaler": []}, {"environment": []}, {"extensions": [3]}, {"extensions": [{"step": 1}]}, {"extensions": None},
    ],
    ids=lambda change: json.dumps(change)[:50],
)  # fmt: skip
def test_record_that_says_what_no_run_says_is_refused(
    change: dict[str, Any], run: Path, changed: Callable[[str, str], Checkpoint]
) -> None:
    record = json.loads((list_checkpoints(run / "checkpoints")[-1] / STATE).read_text())
    with pytest.raises(CheckpointError, match="training state"):
        check_state(changed(STATE, json.dumps(record | change)))


@pytest.mark.parametrize(
    "line",
    [
        "[]", "3", "{", "[" * 100_000, "{}", '{"event": "stepped", "step": 1}', '{"event": "rolled_back", "step": 1}',
        '{"event": "stepped", "step": 9, "loss": 1.0, "batch": 0}', '{"event": "unknown", "step": 1}',
        '{"event": "stepped", "step": 1, "loss": "low", "batch": 0}',
        '{"event": "rolled_back", "step": 1, "skipped": []}', '{"event": "rolled_back", "step": 1, "skipped": [1]}',
        '{"event": "validated", "step": 1, "loss": null}', '{"event": "skipped", "step": 1, "batch": -1}',
    ],
    ids=lambda line: line[:40],
)  # fmt: skip
def test_history_with_a_line_of_something_else_is_refused(line: str, changed: Callable[[str, str], Checkpoint]) -> None:
    with pytest.raises(CheckpointError, match="training state"):
        check_state(changed(HISTORY, line + "\n"))


def test_run_passes_over_a_checkpoint_with_such_a_state(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    newest = list_checkpoints(copy / "checkpoints")[-1]
    record = json.loads((newest / STATE).read_text())
    (newest / STATE).write_text(json.dumps(record | {"batch": "x"}))
    resealed(newest)
    rejected, *_ = train(Request(out=copy, resumes=True), stop_after=0)
    assert isinstance(rejected, Rejected)
    assert rejected.step == 4


def test_checkpoint_beyond_the_run_s_steps_is_passed_over(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "run.json").read_text())
    record["train"]["steps"] = 3
    (copy / "run.json").write_text(json.dumps(record))
    rejected, resumed, *_ = train(Request(out=copy, resumes=True), stop_after=0)
    assert isinstance(rejected, Rejected)
    assert "beyond the 3 steps" in rejected.reason
    assert resumed.step == 3
