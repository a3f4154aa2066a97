"""A run that began with files of one machine goes on on another, which has them elsewhere or not at all."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from forked import Player
from hub_world import HEAVY, REPO, World, difference_of
from tiny_run import SETTINGS, write_text

pytestmark = pytest.mark.slow
OPTIONS = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def places_told(world: World) -> list[str]:
    """The pushed files that name the folder in which all of this happens."""
    here = str(world.folder).encode()
    return [path for branch in ("main", HEAVY) for path, content in world.repo.state(branch).items() if here in content]


def lose_after_a_push(world: World, player: Player) -> None:
    """The machine, and with it the model that was there, right after the first commit of each track."""

    def look(verb: str, branch: str) -> None:
        if (verb, branch) == ("commit", "main"):
            player.process.kill()

    world.hub.watchers.append(look)
    player.wait()
    world.hub.watchers.clear()
    assert places_told(world) == []
    assert 0 < world.pushed_step() < SETTINGS["steps"]
    world.lose_the_machine()
    shutil.rmtree(world.folder / "first")


def first_model(world: World) -> Path:
    """A model of one's own to start from, with its tokenizer."""
    ended = world.do(*world.command(), "--out", "first")
    assert ended.code == 0, ended.output
    return world.folder / "first" / "checkpoints" / "step-00000006"


def test_a_streaming_run_from_a_model_of_ones_own_tells_no_path_and_needs_the_model_no_more(world: World) -> None:
    model, text = first_model(world), write_text(world.folder / "animals.jsonl", documents=40)
    command = ["train", "--init", model, "--data", text, "--stream", *OPTIONS, "--save-every", 1]
    ended = world.do(*command, "--out", world.folder / "straight")
    assert ended.code == 0, ended.output
    lose_after_a_push(world, world.begin(*command, "--out", world.folder / "run", "--hub-repo", REPO))
    ended = world.do("resume", REPO, "--data", text.rename(world.folder / "moved.jsonl"))
    assert ended.code == 0, ended.output
    assert difference_of(world.folder / "runs" / "tiny", world.folder / "straight") == []
    assert places_told(world) == []


@pytest.mark.parametrize("named", ["folder", "file"])
def test_data_with_a_tokenizer_of_ones_own_is_prepared_again_where_that_is_gone(world: World, named: str) -> None:
    model, text = first_model(world), write_text(world.folder / "animals.jsonl", documents=40)
    if named == "file":
        model = model.rename(world.folder / "first" / "model") / "tokenizer.json"
    ended = world.do("prepare", text, "--tokenizer", model, "--out", "data/own")
    assert ended.code == 0, ended.output
    prepared = replace(world, data=world.folder / "data" / "own")
    ended = world.do(*prepared.command(save_every=1), "--out", "straight")
    assert ended.code == 0, ended.output
    lose_after_a_push(world, prepared.train("--out", world.folder / "run", save_every=1))
    ended = world.do("resume", REPO, "--data", text)
    assert ended.code == 0, ended.output
    assert difference_of(world.folder / "runs" / "tiny", world.folder / "straight") == []


def test_the_same_command_goes_on_where_a_model_of_ones_own_lies_elsewhere(world: World) -> None:
    model, text = first_model(world), write_text(world.folder / "animals.jsonl", documents=40)
    command = ["--data", text, "--stream", *OPTIONS, "--save-every", 1, "--hub-repo", REPO, "--out", "run"]
    copy = Path(shutil.copytree(model, world.folder / "elsewhere" / model.name))
    lose_after_a_push(world, world.begin("train", "--init", model, *command))
    ended = world.do("train", "--init", copy, *command)
    assert ended.code == 0, ended.output
    again = world.do("train", "--init", copy, *command)
    assert (again.code, "was finished already" in again.output) == (0, True), again.output
