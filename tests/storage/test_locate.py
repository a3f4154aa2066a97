import json
import os
import shutil
from pathlib import Path

import pytest

from gemmazero.errors import CheckpointError
from gemmazero.storage.checkpoint import TrainingState, save_checkpoint
from gemmazero.storage.locate import best_checkpoint, locate_model, newest_run, run_of


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_empty_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def make_run(name: str, *steps: int, best: str | None = None, saved_at: int = 1000) -> Path:
    run = Path("runs", name)
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    for step in steps:
        checkpoint = save_checkpoint(
            run / "checkpoints",
            step=step,
            run_id="a",
            write_model=write_empty_config,
            state=TrainingState(tensors={}, record={}, history=""),
        )
        os.utime(checkpoint.folder, (saved_at, saved_at))
    if best is not None:
        (run / "best.json").write_text(best)
    return run


def best_of(step: int) -> str:
    return json.dumps({"checkpoint": f"step-{step:08d}", "step": step, "validation_loss": 1.0})


def test_run_means_its_best_checkpoint() -> None:
    run = make_run("a", 2, 4, 6, best=best_of(4))
    assert locate_model("runs/a") == best_checkpoint(run) == run / "checkpoints" / "step-00000004"
    assert locate_model(None) == run / "checkpoints" / "step-00000004"


@pytest.mark.parametrize("best", [None, best_of(5), "", "[]", "{}", '{"checkpoint": 3}', '{"checkpoint": "../../x"}'])
def test_run_without_a_usable_best_means_its_newest_checkpoint(best: str | None) -> None:
    run = make_run("a", 2, 4, 10, best=best)
    assert locate_model(run) == run / "checkpoints" / "step-00000010"


def test_damaged_checkpoint_names_the_run_whose_others_can_be_looked_at() -> None:
    run = make_run("a b", 2, 4)
    make_run("newer", 2, saved_at=2000)
    damaged = run / "checkpoints" / "step-00000004"
    (damaged / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is damaged") as raised:
        locate_model(damaged)
    assert raised.value.hint == "gemmazero resume --verify 'runs/a b' tells of every checkpoint"
    alone = damaged.rename("alone")
    with pytest.raises(CheckpointError, match="is damaged") as raised:
        locate_model(alone)
    assert raised.value.hint == "copy it again from where it came from"


def test_checkpoint_and_model_folder_mean_themselves() -> None:
    run = make_run("a", 2, 4)
    assert locate_model(run / "checkpoints" / "step-00000002") == run / "checkpoints" / "step-00000002"
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    assert locate_model("model") == Path("model")


@pytest.mark.parametrize("name", ["runs/a", "runs/a/checkpoints/step-00000004", None])
def test_damaged_checkpoint_is_no_model_and_a_good_one_is_to_be_found(name: str | None) -> None:
    run = make_run("a", 2, 4, best=best_of(4))
    (run / "checkpoints" / "step-00000004" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r'"config\.json" is not what was written') as raised:
        locate_model(name)
    assert "--verify" in raised.value.hint
    (run / "checkpoints" / "step-00000004" / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        locate_model(name)


def test_copy_of_a_checkpoint_s_model_is_verified_too() -> None:
    run = make_run("a", 2)
    shutil.copytree(run / "checkpoints" / "step-00000002", "mine")
    shutil.rmtree("mine/training")
    assert locate_model("mine") == Path("mine")
    Path("mine/config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not what was written"):
        locate_model("mine")


def test_newest_run_is_the_one_that_saved_last() -> None:
    make_run("z", 100, saved_at=2000)
    newest = make_run("m", 1, saved_at=3000)
    make_run("a", 50, saved_at=1000)
    make_run("unsaved")
    assert newest_run() == newest
    assert locate_model(None).parents[1] == newest


def test_run_that_never_saved_can_be_resumed_but_not_loaded() -> None:
    unsaved = make_run("a")
    assert newest_run() == unsaved
    with pytest.raises(CheckpointError) as raised:
        locate_model(None)
    assert raised.value.hint == "gemmazero train --preset nano --data sample"
    with pytest.raises(CheckpointError, match="has no checkpoint yet") as raised:
        locate_model("runs/a")
    assert raised.value.hint == "gemmazero resume runs/a"


def test_empty_folder_says_how_to_make_a_run() -> None:
    for find in (newest_run, lambda: locate_model(None)):
        with pytest.raises(CheckpointError, match='no run under "runs/"') as raised:
            find()
        assert raised.value.hint == "gemmazero train --preset nano --data sample"


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(CheckpointError, match='no such model: "nowhere"'):
        locate_model("nowhere")
    Path("empty").mkdir()
    Path("file").write_text("")
    for name in ("empty", "file"):
        with pytest.raises(CheckpointError, match=f'"{name}" is neither a run nor a model folder'):
            locate_model(name)


def test_checkpoint_knows_its_run_and_other_models_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a", 2)
    checkpoint = run / "checkpoints" / "step-00000002"
    assert run_of(checkpoint) == run.resolve()
    monkeypatch.chdir(checkpoint)
    assert run_of(Path()) == Path("../..").resolve()
    assert run_of(Path("../..")) is None
