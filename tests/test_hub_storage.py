"""What many pushes leave on the server: no more than is needed, and a main that loads whenever anybody looks."""

import hashlib
import json
from pathlib import Path

import pytest

from hub_world import HEAVY, REPO, World, difference_of
from stock_loader import stock_loader
from tiny_run import SETTINGS

PUSHING = f"""
import json
from pathlib import Path
from gemmazero.hub_repo import HubRepo
from gemmazero.run_config import RunConfig
from gemmazero.storage.push import Pusher
from gemmazero.storage.snapshot import Best, Snapshot
repo, run = HubRepo("{REPO}"), Path("run").absolute()
config = RunConfig.from_json(json.loads((run / "run.json").read_text()))
pusher = Pusher(repo, private=False, overwrites=False)
def push(step, best):
    record = {{"checkpoint": f"step-{{best:08d}}", "step": best, "validation_loss": 1.0 / best}}
    (run / "best.json").write_text(json.dumps(record))
    checkpoint = run / "checkpoints" / f"step-{{step:08d}}"
    pusher.push(Snapshot.take(Path("copies", str(step)), run, checkpoint, Best.of(run)))
    return sum(file.size for file in repo._api.list_lfs_files(repo.name))
"""


def large_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


@pytest.mark.parametrize("pushes", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_after_every_push_the_server_lists_two_checkpoints_at_most_and_main_loads_after_every_change(
    world: World, pushes: int
) -> None:
    """The best checkpoint is in both tracks, and changes now and then."""
    ended = world.do(*world.command(steps=pushes, save_every=1, keep=pushes))
    assert ended.code == 0, ended.output
    problems: list[str] = []
    changes: list[str] = []
    with stock_loader(world.hub, world.folder / "stock") as stock:

        def look(verb: str, branch: str) -> None:
            changes.append(f"{verb} {branch}")
            problems.extend(stock.problems(world.repo))
            problems.extend(world.problems_on_the_hub() if f"refs/heads/{HEAVY}" in world.repo.refs else [])

        world.hub.watchers.append(look)
        listed = world.ask(f"{PUSHING}\nanswer = [push(step, step - step % 3 or 1) for step in range(1, {pushes} + 1)]")
    assert problems == []
    assert stock.loaded == len(changes) - changes.index("commit main")
    assert changes.count("commit training-state") == changes.count("squash training-state") == pushes
    newest = world.run / "checkpoints" / f"step-{pushes:08d}"
    plot = len(world.repo.state("main")["loss_plot.png"])
    assert max(listed) <= 2 * large_bytes(newest) + plot
    kept = {entry.object: entry.size for entry in world.repo.resolve(HEAVY).files.values() if entry.object}
    assert sum(kept.values()) <= 2 * large_bytes(newest)
    assert json.loads(world.repo.state(HEAVY)["checkpoint.json"])["step"] == pushes


@pytest.mark.slow
def test_the_best_model_stays_on_main_when_newer_states_that_hold_it_no_more_are_freed(world: World) -> None:
    """Both tracks have its weights as one object."""
    assert world.do(*world.command(save_every=1, keep=9)).code == 0
    world.ask(f"{PUSHING}\nanswer = [push(step, best=3) for step in (3, 4, 5)]")
    weights = (world.run / "checkpoints" / "step-00000003" / "model.safetensors").read_bytes()
    heavy, light = world.repo.state(HEAVY), world.repo.state("main")
    assert light["model.safetensors"] == weights == heavy["best/model.safetensors"] != heavy["model.safetensors"]
    assert world.problems_on_the_hub() == []
    with stock_loader(world.hub, world.folder / "stock") as stock:
        assert stock.problems(world.repo) == []
        assert stock.loaded == 1


@pytest.mark.slow
def test_a_state_beyond_the_largest_file_is_pushed_in_shards_and_gone_on_with(world: World) -> None:
    """The next machine writes larger files: the shards of before must not stay on main."""
    settings = SETTINGS | {"steps": 60, "save_every": 1}
    assert world.do(*world.command(**settings)).code == 0
    straight = world.run.rename(world.folder / "straight")
    asked = {"preset": str(world.preset), "data": str(world.data), "out": "run", "hub_repo": REPO}
    pushed = world.ask(f"""
from gemmazero.storage import tensor_file
tensor_file.LARGEST_FILE = 20_000
import gemmazero
answer = next(event.step for event in gemmazero.train(**{asked | settings}) if type(event).__name__ == "Pushed")
""")
    assert 0 < pushed < 60
    problems: list[str] = []
    with stock_loader(world.hub, world.folder / "stock") as stock:
        for branch in ("main", HEAVY):
            shards = [path for path in world.repo.state(branch) if path.startswith("model-")]
            assert len(shards) > 3, branch
        assert len([path for path in world.repo.state(HEAVY) if path.startswith("training/optimizer-")]) > 3
        assert stock.problems(world.repo) == []
        world.hub.watchers.append(lambda *_: problems.extend(stock.problems(world.repo)))
        world.lose_the_machine()
        ended = world.do("resume", REPO, "--data", world.data)
    assert ended.code == 0, ended.output
    assert problems == []
    assert [path for branch in ("main", HEAVY) for path in world.repo.state(branch) if "-of-" in path] == []
    assert difference_of(world.folder / "runs" / "tiny", straight) == []


@pytest.mark.parametrize(
    ("harmed", "step"),
    [
        ("model.safetensors", 2),
        ("checkpoint.json", 3),
        pytest.param("model.safetensors", 3, marks=pytest.mark.slow),
        pytest.param("training/optimizer.safetensors", 3, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_step_is_never_pushed(world: World, harmed: str, step: int) -> None:
    """Nor one whose best is; what is on the Hub stays, and is not even asked for."""
    assert world.do(*world.command(steps=3, save_every=1, keep=3)).code == 0
    world.ask(f"{PUSHING}\nanswer = push(1, best=1)")
    before, asked = [world.repo.state(branch) for branch in ("main", HEAVY)], len(world.hub.requests)
    file = world.run / "checkpoints" / f"step-{step:08d}" / harmed
    told = world.ask(f"""{PUSHING}
from gemmazero.errors import CheckpointError
newest, best = (run / "checkpoints" / f"step-{{step:08d}}" for step in (3, 2))
snapshot = Snapshot.take(Path("copies", "3"), run, newest, Best(best, 1.0))
content = bytearray(Path("{file}").read_bytes())
content[-3] ^= 1
Path("{file}").write_bytes(content)
try:
    answer = pusher.push(snapshot)
except CheckpointError as error:
    answer = [error.message, error.hint]
""")
    assert harmed in told[0]
    assert "gemmazero resume --verify" in told[1]
    assert len(world.hub.requests) == asked
    assert [world.repo.state(branch) for branch in ("main", HEAVY)] == before


def test_what_a_person_put_on_main_stays_whatever_it_is_called(world: World) -> None:
    assert world.do(*world.command(steps=3, save_every=1, keep=3)).code == 0
    world.ask(f"{PUSHING}\nanswer = push(1, best=1)")
    theirs = {
        "model-lora.safetensors": b"a", "models/int8.safetensors": b"b", "model-1-of-2.safetensors": b"c",
        "adapter.safetensors": b"d", "model.safetensors.bak": b"e",
    }  # fmt: skip
    stale = "model-00001-of-00002.safetensors"
    for path, content in {**theirs, stale: b"f"}.items():
        name = hashlib.sha256(content).hexdigest()
        world.repo.objects[name] = content
        world.repo.change("main", "", "by hand", [("lfsFile", {"path": path, "oid": name}, b"")])
    world.ask(f"{PUSHING}\nanswer = push(2, best=2)")
    files = world.repo.state("main")
    assert {path: files.get(path) for path in theirs} == theirs
    assert stale not in files
