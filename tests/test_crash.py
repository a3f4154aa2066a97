"""A small part of `make test-crash`, and whether the harness would notice."""

import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import gemmazero
from crash.bugs import BUGS, SOURCE, Bug, noticed
from crash.campaign import Seen
from crash.course import VARIANTS
from crash.instants import CALL, Instant, plain
from crash.phases import ALL, RESUMING
from crash.plan import TIMES, operations_of_a_save, planned
from crash.play import Kill
from crash.remains import damage_of, damages, leftovers, newest_step, repeated_steps
from crash.report import shortfalls
from tiny_run import SETTINGS

SEEN = Counter({
    ("save", "fsync", "run/checkpoints/.step-N.writing"): 8,
    ("retention", "rename", "run/checkpoints/.step-N.writing"): 4,
    ("best.json", "replace", "run/best.json"): 2,
    ("save", CALL, ""): 90_000,
    ("forward", CALL, ""): 20_000,
    (RESUMING, "open", "run/.run.json.writing"): 1,
})  # fmt: skip


@pytest.mark.timeout(900)  # for the sake of a busy machine
def test_runs_killed_anywhere_end_as_those_never_killed() -> None:
    command = [sys.executable, "-m", "crash", "--kills", "6", "--seed", "3", "--processes", "1"]
    command += ["--variants", "bf16-adamw8bit-accumulating-checkpointing,fp16-adamw-accumulating-checkpointing"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = re.search(r"^(\d+) kills in", done.stdout, flags=re.MULTILINE)
    assert kills is not None
    assert int(kills[1]) >= 5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_deliberate_bug_is_noticed(bug: Bug) -> None:
    assert noticed(bug) != []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_deliberate_bug_can_be_made(bug: Bug) -> None:
    assert (SOURCE / bug.file).read_text(encoding="utf-8").count(bug.before) == 1


@pytest.fixture(scope="module")
def run(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended by itself; read only."""
    run = tmp_path_factory.mktemp("crash") / "run"
    gemmazero.train(preset=str(tiny_preset), data=str(tiny_data), out=run, **SETTINGS).run()
    return run


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_a_run_that_nobody_killed_is_not_damaged(run: Path) -> None:
    assert list(damages(run)) == leftovers(run) == repeated_steps(run) == []
    assert newest_step(run) == SETTINGS["steps"]


@pytest.mark.parametrize("name", ["model.safetensors", "training/state.json", "config.json", "checkpoint.json"])
def test_a_file_that_is_missing_or_not_as_it_was_is_damage(name: str, copy: Path) -> None:
    checkpoint = next((copy / "checkpoints").iterdir())
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)
    assert checkpoint.name in damage_of(checkpoint) or name == "checkpoint.json"
    (checkpoint / name).unlink()
    assert checkpoint.name in damage_of(checkpoint)
    assert list(damages(copy)) == [damage_of(checkpoint)]


def test_a_torn_line_is_damage_unless_it_is_the_last(copy: Path) -> None:
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"event": "ste')
    assert list(damages(copy)) == []
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"event": "stepped"}\n{}\n')
    assert "metrics.jsonl" in "".join(damages(copy))


def test_a_best_that_is_not_there_is_damage(copy: Path) -> None:
    (copy / "best.json").write_text('{"checkpoint": "step-00000099"}')
    assert "best.json" in "".join(damages(copy))


def all_of_them(instant: Instant) -> bool:
    return True


def test_a_plan_has_every_file_operation_of_a_save_often_enough_and_is_seeded() -> None:
    instants = planned(SEEN, 200, 1, all_of_them)
    assert instants == planned(SEEN, 200, 1, all_of_them) != planned(SEEN, 200, 2, all_of_them)
    planned_for = Counter((instant.phase, instant.operation, instant.path) for instant in instants)
    assert [planned_for[operation] >= TIMES for operation in operations_of_a_save(SEEN)] == [True] * 3
    assert len(instants) == 200
    assert len(planned(SEEN, 9, 1, all_of_them)) == 9
    assert 60 < len(planned(SEEN, 0, 1, all_of_them)) < 200


def test_paths_are_told_without_the_step() -> None:
    assert plain("/a/run/checkpoints/.step-00000012.writing/config.json", "/a") == (
        "run/checkpoints/.step-N.writing/config.json"
    )


def test_a_campaign_that_hits_too_little_falls_short() -> None:
    chance = random.Random(0)
    operations = operations_of_a_save(SEEN)
    kills = [
        (variant, Kill(instant=Instant(phase=phase), phase=phase, step_before=0, step_after=0))
        for variant in VARIANTS for phase in ALL
    ]  # fmt: skip
    for phase, operation, path in operations * 60:
        instant = Instant(phase=phase, operation=operation, path=path)
        kills.append((chance.choice(VARIANTS), Kill(instant=instant, phase=phase, step_before=0, step_after=0)))
    whole = Seen(operations=SEEN, kills=kills)
    assert [fault for fault in shortfalls(whole) if "inside a save" not in fault] == []
    without_a_phase = Seen(operations=SEEN, kills=[one for one in kills if one[1].phase != "backward"])
    assert any("backward" in fault for fault in shortfalls(without_a_phase))
    without_an_operation = Seen(operations=SEEN, kills=[one for one in kills if one[1].instant.operation != "fsync"])
    assert any("fsync" in fault for fault in shortfalls(without_an_operation))
    without_a_variant = Seen(operations=SEEN, kills=[one for one in kills if one[0] != VARIANTS[3]])
    assert any(VARIANTS[3].name in fault for fault in shortfalls(without_a_variant))
    assert any("300" in fault for fault in shortfalls(Seen(operations=SEEN, kills=kills[:299])))
    assert any("inside a save" in fault for fault in shortfalls(whole))
