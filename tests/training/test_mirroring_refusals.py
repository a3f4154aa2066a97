"""What whole runs must not do to a repository, or to a folder, in processes that take a loopback server for the Hub."""

import json
import shutil
from pathlib import Path

import pytest

from hub_server.store import Entry, Repo
from hub_world import HEAVY, REPO, World


@pytest.fixture
def at_four(world: World, saved_often: Path) -> str:
    """The Hub has the run's step 6, the disk its step 4 alone; what the run is called."""
    shutil.copytree(saved_often, world.run)
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert (ended.code, world.pushed_step()) == (0, 6), ended.output
    shutil.rmtree(world.run / "checkpoints" / "step-00000006")
    assert (world.run / "checkpoints" / "step-00000004").is_dir()
    run_id: str = json.loads((world.run / "run.json").read_text())["run_id"]
    return run_id


@pytest.mark.slow
@pytest.mark.usefixtures("at_four")
@pytest.mark.parametrize(("disk", "more"), [("older", ("--hub-overwrite",)), ("empty", ())])
def test_a_state_without_its_manifest_is_damaged_and_neither_overwritten_nor_taken_for_none(
    world: World, disk: str, more: tuple[str, ...]
) -> None:
    world.repo.change(HEAVY, "", "by hand", [("deletedFile", {"path": "checkpoint.json"}, b"")])
    before = world.repo.state(HEAVY)
    if disk == "empty":
        shutil.rmtree(world.run)
    ended = world.train(*more, save_every=2, keep=9).wait()
    assert ended.code == 1
    assert "damaged" in ended.output
    assert world.repo.state(HEAVY) == before
    assert world.run.exists() == (disk == "older")


PUSHING = f"""
import tempfile
from pathlib import Path
from gemmazero.errors import HubError
from gemmazero.hub_repo import HubRepo
from gemmazero.storage.push import Pusher
from gemmazero.storage.remote_state import look_at
from gemmazero.storage.snapshot import Best, Snapshot
def told(action):
    try:
        return action().state.step
    except HubError as error:
        return error.kind
def push(overwrites):
    run = Path("run").absolute()
    snapshot = Snapshot.take(Path(tempfile.mkdtemp(dir=".")), run, run / "checkpoints" / "step-00000004", Best())
    Pusher(HubRepo("{REPO}"), private=False, overwrites=overwrites).push(snapshot)
answer = [told(lambda: look_at(HubRepo("{REPO}"))), told(lambda: push(False)), told(lambda: push(True))]
"""


@pytest.mark.usefixtures("at_four")
def test_no_push_replaces_what_is_damaged_or_ahead_even_where_it_may_overwrite(world: World) -> None:
    """A program that could not look before it began has the push alone to notice."""
    assert world.ask(PUSHING) == [6, "conflict", "conflict"]
    assert world.pushed_step() == 6
    world.repo.change(HEAVY, "", "by hand", [("deletedFile", {"path": "checkpoint.json"}, b"")])
    before = world.repo.state(HEAVY)
    assert world.ask(PUSHING) == ["damaged", "damaged", "damaged"]
    assert world.repo.state(HEAVY) == before


@pytest.mark.usefixtures("at_four")
def test_a_history_that_no_run_writes_is_told_as_damaged(world: World) -> None:
    history = world.repo.state(HEAVY)["training/history.jsonl"]
    for forged in (b"[" * 100_000, history + b'{"event": "rolled_back", "step": 6, "skipped": [1]}', b"{\xff}"):
        change = ("file", {"path": "training/history.jsonl"}, forged)
        world.repo.change(HEAVY, "", "forged", [change])
        assert world.ask(PUSHING) == ["damaged", "damaged", "damaged"]


@pytest.mark.usefixtures("at_four")
def test_a_file_too_large_for_what_it_is_to_tell_is_not_even_fetched(world: World) -> None:
    for path in ("checkpoint.json", "run.json", "training/history.jsonl"):
        before = world.repo.resolve(HEAVY)
        files = {**before.files, path: Entry(2**31, content=b"{}")}
        world.repo.refs[f"refs/heads/{HEAVY}"] = world.repo.add(files, "forged", before.sha)
        world.hub.requests.clear()
        assert world.ask(PUSHING) == ["damaged", "damaged", "damaged"]
        assert [request for request in world.hub.requests if "/resolve/" in request] == []
        world.repo.refs[f"refs/heads/{HEAVY}"] = before.sha


@pytest.mark.usefixtures("at_four")
def test_what_is_damaged_on_the_hub_is_told_by_its_name_there_and_with_a_hint(world: World) -> None:
    shutil.rmtree(world.run)
    manifest = json.loads(world.repo.state(HEAVY)["checkpoint.json"])
    for path, content, told in (
        ("best/checkpoint.json", json.dumps(manifest).encode(), '"best" is damaged'),
        ("config.json", b"{}", '"step-00000006" is damaged: "config.json"'),
    ):
        before = world.repo.resolve(HEAVY).sha
        world.repo.change(HEAVY, "", "forged", [("file", {"path": path}, content)])
        ended = world.do("resume", REPO, "--data", world.data)
        assert (ended.code, told in ended.output, "hint: --hub-repo" in ended.output) == (1, True, True), ended.output
        assert str(world.folder) not in ended.output
        assert ".writing" not in ended.output
        world.repo.refs[f"refs/heads/{HEAVY}"] = before


@pytest.mark.usefixtures("at_four")
def test_overwriting_never_puts_an_older_state_of_one_run_over_a_newer_one(world: World) -> None:
    ended = world.do("resume", "run", "--hub-repo", REPO, "--hub-overwrite")
    assert ended.code == 0, ended.output
    assert f"brought step 6 from {REPO}" in ended.output
    assert world.pushed_step() == 6


def test_a_machine_that_was_lost_before_its_first_state_was_pushed_leaves_an_empty_track(world: World) -> None:
    repo = world.hub.repos[REPO] = Repo(REPO, "tester")
    repo.refs[f"refs/heads/{HEAVY}"] = repo.refs["refs/heads/main"]
    ended = world.train().wait()
    assert (ended.code, world.pushed_step()) == (0, 6), ended.output


@pytest.mark.parametrize("more", [(), ("--hub-overwrite",)])
def test_a_run_that_is_named_by_its_repository_never_meets_another_one_that_has_its_folder(
    world: World, at_four: str, more: tuple[str, ...]
) -> None:
    folder = world.folder / "runs" / "tiny"
    shutil.copytree(world.run, folder)
    shutil.rmtree(world.run)
    config = json.loads((folder / "run.json").read_text())
    config["run_id"], config["train"]["hub_repo"] = "other", None
    (folder / "run.json").write_text(json.dumps(config))
    before, on_disk = world.repo.state(HEAVY), contents(folder)
    ended = world.do("resume", REPO, *more)
    assert ended.code == 1
    assert f"holds run {at_four} at step 6" in ended.output
    assert "the run other" in ended.output
    assert "--hub-overwrite" not in ended.output
    assert (world.repo.state(HEAVY), contents(folder)) == (before, on_disk)


@pytest.mark.parametrize(
    "checkpoints",
    ["damaged", *(pytest.param(how, marks=pytest.mark.slow) for how in ("of a newer format", "gone"))],
)
def test_another_run_on_the_disk_is_never_replaced_however_bad_its_checkpoints_are(
    world: World, at_four: str, checkpoints: str
) -> None:
    config = json.loads((world.run / "run.json").read_text()) | {"run_id": "other"}
    (world.run / "run.json").write_text(json.dumps(config))
    for folder in (world.run / "checkpoints").iterdir():
        if checkpoints == "gone":
            shutil.rmtree(folder)
        elif checkpoints == "damaged":
            (folder / "model.safetensors").write_bytes(b"")
        else:
            manifest = (folder / "checkpoint.json").read_text()
            (folder / "checkpoint.json").write_text(manifest.replace('"format_version": 1', '"format_version": 2'))
    before, on_disk = world.repo.state(HEAVY), contents(world.run)
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert ended.code == 1
    assert f"run {at_four} at step 6 and not run other" in ended.output
    assert "--hub-overwrite" in ended.output
    assert (world.repo.state(HEAVY), contents(world.run)) == (before, on_disk)
    world.do("resume", "run", "--hub-repo", REPO, "--hub-overwrite")
    assert contents(world.run) == on_disk


def test_a_run_that_never_saved_anything_stands_in_nobodys_way(world: World, at_four: str) -> None:
    config = json.loads((world.run / "run.json").read_text()) | {"run_id": "other"}
    shutil.rmtree(world.run)
    world.run.mkdir()
    (world.run / "run.json").write_text(json.dumps(config))
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert (ended.code, f"brought step 6 from {REPO}" in ended.output) == (0, True), ended.output
    assert json.loads((world.run / "run.json").read_text())["run_id"] == at_four


def test_a_folder_that_is_no_run_is_not_merged_into(world: World, saved_often: Path) -> None:
    shutil.copytree(saved_often, world.run)
    assert world.do("resume", "run", "--hub-repo", REPO).code == 0
    folder = world.folder / "runs" / "tiny"
    later = folder / "checkpoints" / "step-00000009"
    shutil.copytree(saved_often / "checkpoints" / "step-00000006", later)
    shutil.rmtree(world.run)
    before = contents(folder)
    ended = world.do("resume", REPO, "--data", world.data)
    assert (ended.code, "exists and is not a run folder" in ended.output) == (1, True), ended.output
    assert contents(folder) == before
    shutil.rmtree(folder)
    world.hub.fail("status", "GET /objects/", times=-1, status=403)
    assert world.do("resume", REPO, "--data", world.data).code == 1
    world.hub.faults.clear()
    ended = world.do("resume", REPO, "--data", world.data)  # a folder that was being brought is its own
    assert ended.code == 0, ended.output
    assert list(folder.glob(".*")) == []


def test_a_run_that_is_to_be_private_is_not_pushed_where_everybody_reads_it(world: World) -> None:
    repo = world.hub.repos[REPO] = Repo(REPO, "tester")
    ended = world.train("--hub-private").wait()
    assert (ended.code, "is public" in ended.output) == (1, True), ended.output
    assert not world.run.exists()
    assert list(repo.refs) == ["refs/heads/main"]
    repo.private = True
    ended = world.train("--hub-private").wait()
    assert ended.code == 0, ended.output


def test_a_readme_written_or_edited_by_hand_stays(world: World) -> None:
    repo = world.hub.repos[REPO] = Repo(REPO, "tester")
    repo.change("main", "", "by hand", [("file", {"path": "README.md"}, b"mine")])
    assert world.train(steps=3).wait().code == 0
    assert repo.state("main")["README.md"] == b"mine"
    repo.change("main", "", "by hand", [("deletedFile", {"path": "README.md"}, b"")])
    assert world.do("resume", "run", "--steps", 4).code == 0
    card = repo.state("main")["README.md"]
    assert world.do("resume", "run", "--steps", 5).code == 0
    assert repo.state("main")["README.md"] != card
    edited = repo.state("main")["README.md"].replace(b"A language model", b"My language model")
    repo.change("main", "", "by hand", [("file", {"path": "README.md"}, edited)])
    assert world.do("resume", "run", "--steps", 6).code == 0
    assert (repo.state("main")["README.md"], world.pushed_step()) == (edited, 6)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
