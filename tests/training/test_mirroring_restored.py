"""A finished run whose checkpoints are lost on the disk, and that the Hub holds an earlier state of."""

import shutil
from pathlib import Path

import pytest

from hub_world import REPO, World, difference_of

PUSHING = f"""
from pathlib import Path
from gemmazero.hub_repo import HubRepo
from gemmazero.storage.push import Pusher
from gemmazero.storage.snapshot import Best, Snapshot
run = Path("run").absolute()
snapshot = Snapshot.take(Path("copies").absolute(), run, run / "checkpoints" / "step-00000004", Best())
Pusher(HubRepo("{REPO}"), private=False, overwrites=False).push(snapshot)
answer = None
"""

DYING = f"""
import os
from pathlib import Path
from file_operations import intercepted
from gemmazero.hub_repo import HubRepo
from gemmazero.storage.remote_state import look_at
from gemmazero.storage.restore import restore
def before(operation, path):
    if (operation, path.name) == ("rename", "{{}}"):
        os._exit(9)
if (child := os.fork()) == 0:
    with intercepted(before):
        restore(look_at(HubRepo("{REPO}")), Path("run"))
    os._exit(0)
answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture
def run(world: World, saved_often: Path) -> Path:
    """The finished run, each of its checkpoints damaged; its step 4 is on the Hub."""
    shutil.copytree(saved_often, world.run)
    world.ask(PUSHING)
    assert world.pushed_step() == 4
    for weights in world.run.glob("checkpoints/*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    return world.run


def test_a_run_that_is_brought_back_to_an_earlier_step_is_not_finished_any_more(
    world: World, run: Path, saved_often: Path
) -> None:
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert (ended.code, f"brought step 4 from {REPO}" in ended.output) == (0, True), ended.output
    assert "finished already" not in ended.output
    assert world.pushed_step() == 6
    assert difference_of(run, saved_often) == []


def test_nor_where_the_machine_is_lost_before_all_of_it_was_brought(world: World, run: Path, saved_often: Path) -> None:
    assert world.ask(DYING.format(".step-00000006.writing")) == 9  # right before what is beyond step 4 goes
    ended = world.do("resume", "run")
    assert (ended.code, "finished already" in ended.output) == (0, False), ended.output
    assert difference_of(run, saved_often) == []


def test_a_run_whose_checkpoints_are_gone_never_begins_anew_while_one_is_brought(world: World, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert world.ask(DYING.format("step-00000004")) == 9
    before = (run / "run.json").read_bytes()
    ended = world.do(*world.command(save_every=2, keep=9))
    assert (ended.code, 'the checkpoints of "run" are gone' in ended.output) == (1, True), ended.output
    assert (run / "run.json").read_bytes() == before


def test_without_a_hub_a_finished_run_goes_on_from_the_good_checkpoint_before_a_damaged_end(
    world: World, saved_often: Path
) -> None:
    shutil.copytree(saved_often, world.run)
    (world.run / "checkpoints" / "step-00000006" / "model.safetensors").write_bytes(b"")
    ended = world.do("resume", "run")
    assert (ended.code, "finished already" in ended.output) == (0, False), ended.output
    assert difference_of(world.run, saved_often) == []
