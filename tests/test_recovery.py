"""Damage of every kind: it is found, named, and the run goes on from an older checkpoint, to the same end."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gemmazero.errors import CheckpointError
from gemmazero.storage.checkpoint import Checkpoint
from gemmazero.training.events import Finished, Rejected, Resumed
from gemmazero.training.settings import Request
from outcome import differences, outcome
from tiny_run import SETTINGS, train

NEWEST, OLDER = "step-00000004", "step-00000003"


@pytest.fixture(scope="session")
def stopped(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after step 4, with checkpoints of steps 3 and 4."""
    folder = tmp_path_factory.mktemp("recovery") / "run"
    train(request(folder, tiny_data, tiny_preset), stop_after=4)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [OLDER, NEWEST]
    return folder


@pytest.fixture(scope="session")
def straight(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("recovery-straight") / "run"
    train(request(folder, tiny_data, tiny_preset))
    return outcome(folder)


def request(folder: Path, data: Path, preset: Path) -> Request:
    return Request(out=folder, preset=str(preset), data=str(data), settings=SETTINGS)


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def truncate(file: Path, older: Path) -> None:
    file.write_bytes(file.read_bytes()[: random.Random(file.name).randrange(1, file.stat().st_size)])


def empty(file: Path, older: Path) -> None:
    file.write_bytes(b"")


def flip_a_bit(file: Path, older: Path) -> None:
    content = bytearray(file.read_bytes())
    chance = random.Random(f"{file.name} {len(content)}")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def remove(file: Path, older: Path) -> None:
    file.unlink()


def swap(file: Path, older: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(older.read_bytes())
    older.write_bytes(content)


def cases(stopped: Path) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    for file in files_of(stopped / "checkpoints" / NEWEST):
        name = file.relative_to(stopped / "checkpoints" / NEWEST).as_posix()
        for harm in (truncate, empty, flip_a_bit, remove, swap):
            older = stopped / "checkpoints" / OLDER / name
            if harm is not swap or older.read_bytes() != file.read_bytes():
                yield name, harm


def test_every_file_harmed_in_every_way_is_found_and_the_older_checkpoint_is_taken(
    stopped: Path, tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    """Two files swapped harm both checkpoints; then the run is refused."""
    harmed = 0
    for name, harm in cases(stopped):
        run = shutil.copytree(stopped, tmp_path / "run")
        harm(run / "checkpoints" / NEWEST / name, run / "checkpoints" / OLDER / name)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        if harm is swap:
            with pytest.raises(CheckpointError, match=f"no checkpoint of .* is good: .*{NEWEST}"):
                train(request(run, tiny_data, tiny_preset), stop_after=0)
            assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
        else:
            rejected, resumed, *_ = train(request(run, tiny_data, tiny_preset), stop_after=0)
            assert isinstance(rejected, Rejected), (name, harm)
            assert (rejected.step, rejected.checkpoint.name) == (4, NEWEST)
            assert name in rejected.reason or name == "checkpoint.json"
            assert isinstance(resumed, Resumed)
            assert resumed.step == 3
        harmed += 1
        shutil.rmtree(run)
    assert harmed >= 45, "ten files in five ways, but for equal files, which cannot be swapped"


@pytest.mark.parametrize("seed", range(20))
def test_any_bit_of_the_weights_counts(stopped: Path, seed: int, tmp_path: Path) -> None:
    copy = shutil.copytree(stopped / "checkpoints" / NEWEST, tmp_path / NEWEST)
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 1 << seed % 8
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Checkpoint.open(copy).verify()


@pytest.mark.parametrize("harm", ["a flipped bit", "an unknown file", "a missing manifest", "another step", "a future"])
def test_run_that_fell_back_ends_as_the_run_that_never_was_harmed(
    harm: str, stopped: Path, straight: dict[str, Any], tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    newest = run / "checkpoints" / NEWEST
    if harm == "a flipped bit":
        flip_a_bit(newest / "training" / "optimizer.safetensors", newest)
    elif harm == "an unknown file":
        (newest / "more.bin").write_text("")
    elif harm == "a missing manifest":
        (newest / "checkpoint.json").unlink()
    elif harm == "another step":
        shutil.rmtree(newest)
        shutil.copytree(run / "checkpoints" / OLDER, newest)
    else:
        manifest = json.loads((newest / "checkpoint.json").read_text())
        (newest / "checkpoint.json").write_text(json.dumps(manifest | {"format_version": 99}))
    rejected, resumed, *_, last = train(request(run, tiny_data, tiny_preset))
    assert (type(rejected), type(resumed), type(last)) == (Rejected, Resumed, Finished)
    assert differences(outcome(run), straight) == []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["event"] == "rejected"]
    assert [(line["step"], line["reason"]) for line in told] == [(4, rejected.reason)]


def test_where_no_checkpoint_is_good_nothing_begins_anew(
    stopped: Path, tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    for name in (NEWEST, OLDER):
        empty(run / "checkpoints" / name / "model.safetensors", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for wanted in (request(run, tiny_data, tiny_preset), Request(out=run, resumes=True)):
        with pytest.raises(CheckpointError, match=f'no checkpoint of .* is good: .*{NEWEST}.*"model.safetensors"'):
            train(wanted)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_best_that_was_damaged_is_forgotten_and_told(
    stopped: Path, tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    assert json.loads((run / "best.json").read_text())["step"] == 3
    flip_a_bit(run / "checkpoints" / OLDER / "config.json", run)
    events = train(request(run, tiny_data, tiny_preset))
    assert (type(events[0]), events[0].step) == (Rejected, 3)
    assert isinstance(events[1], Resumed)
    assert events[1].step == 4
    best = json.loads((run / "best.json").read_text())["checkpoint"]
    Checkpoint.open(run / "checkpoints" / best).verify()
