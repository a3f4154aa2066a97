"""Whole runs, in processes that take a loopback server for the Hub."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gemmazero
from forked import Player
from hub_server.server import READER, STRANGER, TOKEN, Account
from hub_server.store import Repo
from hub_world import HEAVY, REPO, World, difference_of, wait_for
from tiny_run import SETTINGS, finished_run, write_text

SOME_LOGITS = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{REPO}")
model = AutoModelForCausalLM.from_pretrained("{REPO}").float().eval()
ids = tokenizer("ant bee cat", return_tensors="pt").input_ids
with torch.no_grad():
    answer = [ids.tolist(), model(ids).logits.tolist()]
"""


@pytest.fixture(scope="session")
def straight(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed, and that knows no Hub; read only."""
    return finished_run(tmp_path_factory.mktemp("straight") / "run", tiny_data, tiny_preset)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def kill_after_commits(world: World, player: Player, branch: str, count: int) -> None:
    """SIGKILL at the moment when the server has made the commit, and before the program is told."""
    made: list[str] = []

    def look(verb: str, changed: str) -> None:
        made.append(f"{verb} {changed}")
        if made.count(f"commit {branch}") == count:
            player.process.kill()

    world.hub.watchers.append(look)
    assert player.wait().code == -signal.SIGKILL
    world.hub.watchers.remove(look)


def test_both_tracks_are_what_the_disk_holds_and_transformers_loads_the_light_one(world: World, straight: Path) -> None:
    ended = world.train().wait()
    assert ended.code == 0, ended.output
    assert difference_of(world.run, straight) == []
    assert list(world.run.glob(".*")) == []
    newest = world.run / "checkpoints" / "step-00000006"
    on_disk = {path.relative_to(newest).as_posix(): path.read_bytes() for path in newest.rglob("*") if path.is_file()}
    heavy, light = world.repo.state(HEAVY), world.repo.state("main")
    assert {path: heavy[path] for path in heavy if path not in ("run.json", ".gitattributes")} == on_disk
    assert light["model.safetensors"] == on_disk["model.safetensors"]
    assert set(light) - {".gitattributes"} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "gemmazero.json", "README.md", "loss_plot.png", "metrics.jsonl",
    }  # fmt: skip
    assert b'"event": "finished"' in light["metrics.jsonl"]
    run_id = json.loads(heavy["run.json"])["run_id"]
    (commit,) = world.repo.history(world.repo.resolve(HEAVY).sha)
    assert commit.message.startswith(f"run {run_id}, step 6")
    assert world.repo.resolve("main").message.startswith(f"run {run_id}, step 6")
    ids, logits = world.ask(SOME_LOGITS)
    model = gemmazero.load(world.run, device="cpu")
    assert [model.tokenizer.encode("ant bee cat")] == ids
    import torch

    assert torch.allclose(model.logits(torch.tensor(ids)), torch.tensor(logits), atol=1e-5)
    assert TOKEN not in ended.output + "".join(
        path.read_text(errors="replace") for path in world.run.rglob("*") if path.is_file()
    )


def test_a_machine_that_is_lost_loses_nothing_that_was_pushed(world: World, straight: Path) -> None:
    kill_after_commits(world, world.train(save_every=1), HEAVY, 2)
    pushed = world.pushed_step()
    assert pushed > 0
    world.lose_the_machine()
    ended = world.do("resume", REPO, "--data", world.data)
    assert ended.code == 0, ended.output
    run = world.folder / "runs" / "tiny"
    assert events(run, "resumed")[0]["step"] == pushed
    assert difference_of(run, straight) == []
    assert world.pushed_step() == 6
    assert world.problems_on_the_hub() == []


def test_a_machine_that_is_lost_between_the_two_tracks_of_its_last_state_leaves_the_model_to_the_next(
    world: World,
) -> None:
    kill_after_commits(world, world.train(save_every=6, validate_every=6), HEAVY, 1)
    assert "model.safetensors" not in world.repo.state("main")
    world.lose_the_machine()
    ended = world.do("resume", REPO, "--data", world.data)
    assert ended.code == 0, ended.output
    assert world.repo.state("main")["model.safetensors"] == world.repo.state(HEAVY)["model.safetensors"]


@pytest.mark.slow
def test_the_same_command_goes_on_from_the_hub_on_an_empty_machine(world: World, straight: Path) -> None:
    kill_after_commits(world, world.train(save_every=1), "main", 2)
    pushed = world.pushed_step()
    world.lose_the_machine()
    ended = world.train(save_every=1).wait()
    assert ended.code == 0, ended.output
    assert f"brought step {pushed} from {REPO}" in ended.output
    assert difference_of(world.run, straight) == []


@pytest.mark.parametrize(
    "status", [pytest.param(503, marks=pytest.mark.slow), pytest.param(429, marks=pytest.mark.slow), 401]
)
def test_a_hub_that_does_not_answer_is_never_taken_for_an_empty_one(world: World, status: int) -> None:
    world.hub.fail("status", "whoami" if status == 401 else "/api/models", times=-1, status=status)
    ended = world.train().wait()
    assert ended.code == 1
    assert f"HTTP {status}" in ended.output
    assert "Traceback" not in ended.output
    assert not world.run.exists()
    assert world.hub.repos == {}


@pytest.mark.slow
def test_a_hub_that_is_down_costs_a_run_nothing_but_its_last_word(world: World, straight: Path) -> None:
    world.hub.fail("status", "POST .*/(preupload|branch)", times=-1, status=503)
    ended = world.train().wait()
    assert ended.code == 1
    assert difference_of(world.run, straight) == []
    assert "error: step 6 is on this disk and not on the Hub, nothing of it is" in ended.output
    assert f"gemmazero resume run --hub-repo {REPO}" in ended.output
    assert "run is finished, at step 6" in ended.output
    world.hub.faults.clear()
    again = world.do("resume", "run", "--hub-repo", REPO)
    assert again.code == 0, again.output
    assert world.pushed_step() == 6
    assert difference_of(world.run, straight) == []


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_run_goes_on_while_the_hub_is_gone_altogether_and_pushes_once_it_is_back(
    world: World, comes_back: bool
) -> None:
    settings = SETTINGS | {"steps": 30, "save_every": 1}
    assert world.do(*world.command(**settings)).code == 0
    straight = world.run.rename(world.folder / "straight")
    kill_after_commits(world, world.train(**settings), HEAVY, 2)
    pushed = world.pushed_step()
    world.hub.die(1e9)
    player = world.train(**settings)
    while comes_back and not events(world.run, "push_failed"):
        assert player.process.exitcode is None
        time.sleep(0.02)
    if comes_back:
        world.hub.dead_until = 0.0
    ended = player.wait()
    assert difference_of(world.run, straight) == []
    assert "could not be reached" in ended.output
    if comes_back:
        assert (ended.code, world.pushed_step()) == (0, 30), ended.output
        assert world.problems_on_the_hub() == []
    else:
        assert (ended.code, world.pushed_step()) == (1, pushed), ended.output
        assert "error: step 30 is on this disk and not on the Hub" in ended.output
        assert f"gemmazero resume run --hub-repo {REPO}" in ended.output


@pytest.mark.slow
def test_what_goes_wrong_on_the_way_is_told_and_mended_by_the_end(world: World, straight: Path) -> None:
    hub = world.hub
    faults = [
        hub.fail("status", "POST .*/commit/training-state", status=429, headers={"Retry-After": "1"}),
        hub.fail("reset", "POST .*/commit/training-state", when="after"),
        hub.fail("reset", "POST .*/commit/main"),
        hub.fail("half_read", "PUT /objects/"),
        hub.fail("status", "objects/batch", status=502),
    ]
    ended = world.train().wait()
    assert ended.code == 0, ended.output
    assert [fault.hits for fault in faults] == [1, 1, 1, 1, 1]
    assert "is not on the Hub" in ended.output
    assert world.pushed_step() == 6
    assert world.problems_on_the_hub() == []
    assert difference_of(world.run, straight) == []


@pytest.mark.slow
def test_another_runs_repository_is_never_overwritten_unless_it_may_be(world: World) -> None:
    assert world.train().wait().code == 0
    before = world.repo.state(HEAVY)
    shutil.rmtree(world.run)
    ended = world.train(seed=1).wait()
    assert ended.code == 1
    assert "run " in ended.output
    assert "--hub-overwrite" in ended.output
    assert world.repo.state(HEAVY) == before
    assert not world.run.exists()
    assert world.do(*world.command(seed=1)).code == 0  # a run of its own, which then meets the repository
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert ended.code == 1
    assert "--hub-overwrite" in ended.output
    assert world.repo.state(HEAVY) == before
    ended = world.do("resume", "run", "--hub-repo", REPO, "--hub-overwrite")
    assert ended.code == 0, ended.output
    run_id = json.loads((world.run / "run.json").read_text())["run_id"]
    assert json.loads(world.repo.state(HEAVY)["checkpoint.json"])["run_id"] == run_id
    assert json.loads(world.repo.state("main")["gemmazero.json"])["run_id"] == run_id


def test_a_repository_with_other_files_is_left_alone(world: World) -> None:
    world.hub.repos[REPO] = Repo(REPO, "tester")
    world.repo.change("main", "", "by hand", [("file", {"path": "notes.txt"}, b"mine")])
    ended = world.train().wait()
    assert ended.code == 1
    assert "holds other files" in ended.output
    assert world.repo.state("main")["notes.txt"] == b"mine"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (READER, "may read"),
        (STRANGER, 'may not write under "tester"'),
        ("hf_anythingelse", "HTTP 401"),
        ("hf_pástedwrong", "must be plain ASCII"),
    ],
)
def test_a_token_that_may_not_write_is_told_at_once_and_never_shown(world: World, token: str, message: str) -> None:
    ended = world.train(token=token).wait()
    assert ended.code == 1
    assert message in ended.output
    assert token not in ended.output
    assert not world.run.exists()


def test_an_organisations_repository_is_pushed_to_by_its_members_alone(world: World) -> None:
    command = [*world.command(), "--hub-repo", "lab/tiny"]
    world.hub.accounts[TOKEN] = Account("tester", "write", reads=("lab",))
    ended = world.do(*command)
    assert (ended.code, 'may not write under "lab"' in ended.output) == (1, True), ended.output
    assert not world.run.exists()
    world.hub.accounts[TOKEN] = Account("tester", "write", ("lab",))
    ended = world.do(*command)
    assert ended.code == 0, ended.output
    assert "model.safetensors" in world.hub.repos["lab/tiny"].state("main")


@pytest.mark.slow
def test_a_token_that_turns_out_not_to_write_is_told_with_what_mends_it_and_the_run_goes_on(world: World) -> None:
    """One with rights of its own, which does not tell them."""
    world.hub.accounts[TOKEN] = Account("tester", "fineGrained")
    ended = world.train().wait()
    assert (ended.code, "HTTP 403" in ended.output) == (1, True), ended.output
    assert not world.run.exists()
    world.hub.repos[REPO] = Repo(REPO, "tester")
    ended = world.train().wait()
    assert ended.code == 1
    assert "is finished, at step 6" in ended.output
    assert "set HF_TOKEN to one that may write there" in ended.output
    world.hub.accounts[TOKEN] = Account("tester", "write")
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert ended.code == 0, ended.output
    assert world.pushed_step() == 6


@pytest.mark.slow
def test_two_histories_that_have_parted_are_both_told_and_neither_is_lost(world: World) -> None:
    assert world.train(save_every=1).wait().code == 0
    history = "training/history.jsonl"
    lines = world.repo.state(HEAVY)[history].splitlines(keepends=True)
    step = json.loads(lines[0]) | {"loss": 1.0}
    forge(world.repo, history, b"".join([json.dumps(step).encode() + b"\n", *lines[1:]]))
    before = world.repo.state(HEAVY)
    ended = world.do("resume", "run", "--hub-repo", REPO)
    assert ended.code == 1
    assert "neither leads to the other" in ended.output
    assert world.repo.state(HEAVY) == before


def test_leaving_the_loop_early_pushes_what_that_saved(world: World) -> None:
    settings = SETTINGS | {"save_every": 1000, "hub_repo": REPO}
    training = f"gemmazero.train(preset={str(world.preset)!r}, data={str(world.data)!r}, out='run', **{settings!r})"
    loop = f"for event in {training}:\n    if event.step == 4: break"
    world.ask(f"import gemmazero\n{loop}\nanswer = 0")
    assert world.pushed_step() == 4
    assert world.problems_on_the_hub() == []


def test_nothing_is_told_after_the_end_though_a_push_ends_later(world: World) -> None:
    """A run whose last line is another one would not be known to have ended."""
    pushing, ended = world.folder / "pushing", world.folder / "ended"

    def wait(verb: str, changed: str) -> None:
        if (verb, changed) == ("commit", HEAVY):
            pushing.touch()
            wait_for(ended)

    world.hub.watchers.append(wait)
    settings = SETTINGS | {"hub_repo": REPO}
    told = world.ask(f"""
import threading
from pathlib import Path
import gemmazero
from gemmazero.training import mirroring
from hub_world import wait_for
mirroring.SECONDS_AT_THE_END = 0.0
answer = []
for event in gemmazero.train(preset={str(world.preset)!r}, data={str(world.data)!r}, out="run", **{settings!r}):
    answer.append(type(event).__name__)
    if answer[-1] == "Saved":
        wait_for(Path("pushing"))
    if answer[-1] == "Finished":
        Path("ended").touch()
        for thread in threading.enumerate():
            if thread.name == "hub":
                thread.join()
""")
    assert "PushFailed" in told
    assert told[-1] == "Finished"
    assert world.pushed_step() > 0
    assert json.loads((world.run / "metrics.jsonl").read_text().splitlines()[-1])["event"] == "finished"


def test_nobody_pushes_once_the_loop_of_an_ended_run_is_left(world: World) -> None:
    assert world.do(*world.command()).code == 0
    world.hub.fail("status", "POST .*/(preupload|branch)", times=-1, status=503)
    settings = SETTINGS | {"hub_repo": REPO}
    are_alive = world.ask(f"""
import threading
import gemmazero
for event in gemmazero.train(preset={str(world.preset)!r}, data={str(world.data)!r}, out="run", **{settings!r}):
    if type(event).__name__ == "PushFailed":
        pushing = [thread for thread in threading.enumerate() if thread.name == "hub"]
        break
for thread in pushing:
    thread.join(60)
answer = [thread.is_alive() for thread in pushing]
""")
    assert are_alive == [False]


def test_a_wait_at_the_start_is_told_and_ends_with_max_time(world: World) -> None:
    busy = world.hub.fail("status", "whoami", times=-1, status=429, headers={"Retry-After": "60"})
    ended = world.train("--max-time", "1s").wait()
    assert (ended.code, busy.hits) == (75, 1), ended.output
    assert "warning: the Hub answered HTTP 429 for the account; tried again in 1m 00s" in ended.output
    assert "stopped by --max-time 1s before any step was done" in ended.output
    assert not world.run.exists()


IMPATIENT = """
from gemmazero.__main__ import main
from gemmazero.training import mirroring
mirroring.SECONDS_AT_A_STOP = 1.0
main()
"""


@pytest.mark.slow
def test_a_stopped_run_does_not_wait_for_an_upload_that_hangs_beyond_the_deadline(world: World) -> None:
    """The client uploads two files and more, those before the commit itself, in threads that Python waits for."""
    world.hub.large += (".json", ".jsonl")
    hanging = world.hub.fail("hang", "PUT /objects/", skip=3, times=-1, seconds=300.0)
    environment = world.hub.environment(world.folder / "home", GEMMAZERO_HUB_TIMEOUT="300")
    command = [sys.executable, "-c", IMPATIENT, *world.command(steps=100_000, save_every=9), "--hub-repo", REPO]
    with subprocess.Popen(command, cwd=world.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 100
            while hanging.hits < 2 and time.monotonic() < end:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            _, talk = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 75, talk
    assert hanging.hits >= 2
    assert "is on this disk and not on the Hub" in talk


def test_a_damaged_state_on_the_hub_is_refused(world: World) -> None:
    assert world.train().wait().code == 0
    weights = bytearray(world.repo.state(HEAVY)["training/optimizer.safetensors"])
    weights[-1] ^= 1
    forge(world.repo, "training/optimizer.safetensors", bytes(weights))
    world.lose_the_machine()
    ended = world.do("resume", REPO, "--data", world.data)
    assert ended.code == 1
    assert "damaged" in ended.output
    assert "Traceback" not in ended.output
    assert not (world.folder / "runs" / "tiny" / "run.json").exists()


@pytest.mark.slow
def test_a_download_that_arrives_damaged_or_cut_is_fetched_again(world: World, straight: Path) -> None:
    assert world.train().wait().code == 0
    world.lose_the_machine()
    faults = [
        world.hub.fail("corrupt", "GET /objects/.*"),
        world.hub.fail("truncate", "GET /objects/.*"),
        world.hub.fail("reset", "GET .*/resolve/.*/config.json"),
    ]
    ended = world.do("resume", REPO, "--data", world.data)
    assert ended.code == 0, ended.output
    assert [fault.hits for fault in faults] == [1, 1, 1]
    assert difference_of(world.folder / "runs" / "tiny", straight) == []


@pytest.mark.slow
def test_data_is_prepared_again_and_another_is_refused(world: World) -> None:
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", value)]
    train = ["train", "--preset", world.preset, "--data", "sample", "--out", "run", *settings, "--steps", 2]
    ended = world.do(*train, "--warmup-steps", 1, "--hub-repo", REPO)
    assert ended.code == 0, ended.output
    world.lose_the_machine()
    text = write_text(world.folder / "other.jsonl", 40)
    assert world.do("prepare", text, "--out", "other", "--tokenizer", "bytes").code == 0
    ended = world.do("resume", REPO, "--data", "other")
    assert ended.code == 1
    assert "does not hold the data that the run began with" in ended.output
    shutil.rmtree(world.folder / "runs")
    ended = world.do("resume", REPO)
    assert ended.code == 0, ended.output
    assert (world.folder / "data" / "sample" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_streaming_run_goes_on_from_the_hub_wherever_its_text_is(world: World) -> None:
    text = write_text(world.folder / "animals.jsonl", documents=40)
    command = [*replace(world, data=text).command(save_every=1), "--stream", "--tokenizer", "bytes"]
    ended = world.do(*command)
    assert ended.code == 0, ended.output
    straight = world.run.rename(world.folder / "straight")
    kill_after_commits(world, world.begin(*command, "--hub-repo", REPO), HEAVY, 2)
    assert str(world.folder) not in world.repo.state(HEAVY)["run.json"].decode()
    pushed = world.pushed_step()
    world.lose_the_machine()
    moved = text.rename(world.folder / "moved.jsonl")
    ended = world.do("resume", REPO)
    assert (ended.code, "the text that the run streams is gone" in ended.output) == (1, True), ended.output
    ended = world.do("resume", REPO, "--data", moved)
    assert ended.code == 0, ended.output
    run = world.folder / "runs" / "tiny"
    assert events(run, "resumed")[0]["step"] == pushed
    assert difference_of(run, straight) == []


@pytest.mark.slow
def test_a_run_stopped_by_its_time_limit_keeps_its_exit_code_where_the_hub_is_down(world: World) -> None:
    world.hub.fail("status", "POST .*/(preupload|branch)", times=-1, status=503)
    ended = world.train("--max-time", "1s", steps=100_000).wait()
    assert ended.code == 75, ended.output
    assert "is not on the Hub" in ended.output


def test_an_empty_repository_is_nothing_to_resume(world: World) -> None:
    ended = world.do("resume", "tester/nothing")
    assert ended.code == 1
    assert "holds no state to go on from" in ended.output
    assert not (world.folder / "runs" / "nothing").exists()


def forge(repo: Repo, path: str, content: bytes) -> None:
    """Change a file on the heavy track, and the manifest's word of it as little as the Hub would."""
    import hashlib

    if path.endswith(".safetensors"):
        name = hashlib.sha256(content).hexdigest()
        repo.objects[name] = content
        repo.change(HEAVY, "", "forged", [("lfsFile", {"path": path, "oid": name}, b"")])
    else:
        repo.change(HEAVY, "", "forged", [("file", {"path": path}, content)])
