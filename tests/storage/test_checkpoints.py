import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemmazero.errors import CheckpointError
from gemmazero.run_config import Extension, RunConfig
from gemmazero.storage.checkpoint import list_checkpoints
from gemmazero.storage.checkpoints import Checkpoints
from gemmazero.training.settings import Request
from tiny_run import SETTINGS, train


@pytest.fixture(scope="session")
def finished(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints of steps 2, 3, 4 and 6; 6 is the best."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    train(Request(out=folder, preset=str(tiny_preset), data=str(tiny_data), settings=SETTINGS | {"keep": 9}))
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def checkpoints(run: Path, **changes: Any) -> Checkpoints:
    return Checkpoints(run, replace(RunConfig.from_json(json.loads((run / "run.json").read_text())), **changes))


def steps(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(run / "checkpoints")]


def damage(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    with (folder / "training" / "history.jsonl").open("a") as file:
        file.write("\n")
    return folder


def test_newest_good_one_is_found_and_each_bad_one_named(run: Path) -> None:
    assert steps(run) == [2, 3, 4, 6]
    newest, passed_over = checkpoints(run).newest_good()
    assert newest is not None
    assert (newest.step, passed_over) == (6, [])
    damage(run, 6)
    (damage(run, 4) / "checkpoint.json").unlink()
    newest, passed_over = checkpoints(run).newest_good()
    assert newest is not None
    assert (newest.step, [one.step for one in passed_over]) == (3, [6, 4])
    assert 'history.jsonl" is not what was written' in passed_over[0].reason
    assert "not a complete checkpoint" in passed_over[1].reason


def test_run_without_a_good_checkpoint_is_an_error_and_one_without_any_is_none(run: Path) -> None:
    run = run.rename(run.with_name("a run"))
    for step in steps(run):
        damage(run, step)
    with pytest.raises(CheckpointError, match=r"no checkpoint of .* is good: .*step-00000006") as raised:
        checkpoints(run).newest_good()
    assert raised.value.hint == f"gemmazero resume --verify '{run}' tells of every checkpoint"
    shutil.rmtree(run / "checkpoints")
    assert checkpoints(run).newest_good() == (None, [])


def test_checkpoint_of_another_run_is_bad(run: Path) -> None:
    assert not checkpoints(run, run_id="another").is_good(6)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        checkpoints(run, run_id="another").newest_good()


def test_extended_run_begins_where_it_was_extended_and_leaves_its_old_end_alone(run: Path) -> None:
    extended = checkpoints(run, extensions=(Extension(step=3, steps_before=6, steps=9),))
    newest, passed_over = extended.newest_good()
    assert newest is not None
    assert (newest.step, passed_over) == (3, [])
    assert extended.is_good(6)
    assert not extended.leads_on(6)


def test_newest_of_an_earlier_step_is_found_or_missed(run: Path) -> None:
    newest, _ = checkpoints(run).newest_good(latest=5)
    assert newest is not None
    assert newest.step == 4
    with pytest.raises(CheckpointError, match="no good checkpoint of step 1 or before"):
        checkpoints(run).newest_good(latest=1)


@pytest.mark.parametrize(
    ("keep", "always", "damaged", "left"),
    [
        (1, (), (), [6]), (2, (), (), [4, 6]), (9, (), (), [2, 3, 4, 6]),
        (1, (2,), (), [2, 6]), (1, (2, 3), (), [2, 3, 6]),
        (2, (), (4,), [3, 4, 6]),  # a bad one does not count, and goes when it is old
        (1, (), (6,), [4, 6]), (1, (), (4,), [6]), (2, (), (6, 4), [2, 3, 4, 6]), (1, (), (2, 3, 4, 6), [2, 3, 4, 6]),
    ],
)  # fmt: skip
def test_newest_good_ones_and_the_wanted_are_kept(
    keep: int, always: tuple[int, ...], damaged: tuple[int, ...], left: list[int], run: Path
) -> None:
    for step in damaged:
        damage(run, step)
    checkpoints(run).retain(keep=keep, always=always)
    assert steps(run) == left


def test_best_that_is_named_is_kept(run: Path) -> None:
    checkpoints(run).name_best(3, 4.5)
    assert json.loads((run / "best.json").read_text()) == {
        "checkpoint": "step-00000003", "step": 3, "validation_loss": 4.5,
    }  # fmt: skip
    checkpoints(run).retain(keep=1, always=())
    assert steps(run) == [3, 6]


def test_later_checkpoints_are_removed_where_the_run_went_back(run: Path) -> None:
    checkpoints(run).remove_after(3)
    assert steps(run) == [2, 3]


def test_old_end_of_an_extended_run_does_not_count_among_those_kept(run: Path) -> None:
    extended = checkpoints(run, extensions=(Extension(step=3, steps_before=6, steps=9),))
    (run / "best.json").unlink()
    extended.retain(keep=1, always=())
    assert steps(run) == [3, 4, 6]


def test_checkpoint_of_another_model_is_bad(run: Path) -> None:
    config = checkpoints(run).config
    larger = replace(config.model, vocab_size=2 * config.model.vocab_size)
    with pytest.raises(CheckpointError, match=r"holds another model than .*run\.json"):
        checkpoints(run, model=larger).newest_good()
