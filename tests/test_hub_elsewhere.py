"""The same laws against another loopback Hub, where there is one beside the repository: in LFS and in Xet mode."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gemmazero
from hub_world import HEAVY, REPO, World, difference_of
from other_hub import environment_of, needs_other_hub, other_hub
from tiny_run import finished_run

pytestmark = [pytest.mark.slow, needs_other_hub]
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}  # transformers takes no answer for no file
SOME_LOGITS = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("{REPO}").float().eval()
with torch.no_grad():
    answer = model(torch.tensor([[97, 98, 99]])).logits.tolist()
"""


@dataclass
class Elsewhere:
    """That Hub, as ``World`` sees one."""

    process: Any
    xet: bool

    def environment(self, home: Path, *, token: str, **more: str) -> dict[str, str]:  # noqa: ARG002 - it has its own
        return environment_of(self.process, home, token="hf_testwrite", xet=self.xet) | more


@pytest.fixture(params=["lfs", "xet"])
def there(request: pytest.FixtureRequest, tmp_path: Path, tiny_data: Path, tiny_preset: Path) -> Iterator[World]:
    is_xet = request.param == "xet"
    with other_hub(tmp_path / "hub", xet=is_xet) as process:
        yield World(tmp_path, Elsewhere(process, is_xet), tiny_preset, tiny_data)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def straight(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    return finished_run(run, tiny_data, tiny_preset, steps=30, validate_every=5, save_every=1)


def file_of(world: World, branch: str, path: str) -> bytes:
    """A file, straight from the server."""
    hub: Any = world.hub
    address = f"{hub.process.url}/{REPO}/resolve/{branch}/{path}"
    request = urllib.request.Request(address, headers={"Authorization": "Bearer hf_testwrite"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def pushed_step(world: World) -> int:
    try:
        return int(json.loads(file_of(world, HEAVY, "checkpoint.json"))["step"])
    except OSError:
        return 0


FAULTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "429": {"do": "status", "status": 429, "retry_after": 1, "path": "/commit/", "times": 2},
    "503": {"do": "status", "status": 503, "path": "objects/batch|xet-write-token|/commit/", "times": 3},
    "lost answer": {"do": "lost_response", "path": "/commit/", "times": 2},
    "reset": {"do": "reset", "path": "/commit/|/tree/|/revision/", "times": 3, "prob": 0.5},
    "upload dies": {"do": "upload_die", "side": "cdn", "method": "PUT|POST", "times": 2},
    "412": {"do": "status", "status": 412, "path": "/commit/", "times": 1},
    "quota": {"do": "quota", "path": "objects/batch|/commit/", "times": 2},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_machine_that_is_lost_under_faults_loses_nothing_that_was_pushed(
    there: World, straight: Path, fault: str
) -> None:
    control = there.hub.process.control  # type: ignore[attr-defined]
    settings = {"steps": 30, "validate_every": 5, "save_every": 1}
    command = [*there.command(**settings), "--hub-repo", REPO]
    if how := dict(FAULTS[fault]):
        rule = control.fault(how.pop("do"), **how)
    player = there.begin(*command)
    end = time.monotonic() + 60
    while not pushed_step(there) and player.process.exitcode is None and time.monotonic() < end:
        time.sleep(0.05)
    player.process.kill()
    assert player.wait().code in (-signal.SIGKILL, 0)
    pushed = pushed_step(there)
    there.lose_the_machine()
    ended = there.do(*(["resume", REPO, "--data", there.data] if pushed else command))
    assert fault == "nothing" or control.hits(rule)
    control.clear_faults()
    if ended.code == 1:  # a quota, or a lasting refusal: it is on the disk, and pushed by the next command
        folder = "runs/tiny" if pushed else "run"
        ended = there.do("resume", folder, "--hub-repo", REPO)
    assert ended.code == 0, ended.output
    run = there.folder / ("runs/tiny" if pushed else "run")
    assert difference_of(run, straight) == []
    assert pushed_step(there) == 30
    assert b"model_type" in file_of(there, "main", "config.json")
    logits = there.ask(SOME_LOGITS, **PATIENT)
    import torch

    ours = gemmazero.load(run, device="cpu").logits(torch.tensor([[97, 98, 99]]))
    assert torch.allclose(ours, torch.tensor(logits), atol=1e-5)


def test_a_server_that_dies_with_a_commit_loses_nothing(there: World, straight: Path) -> None:
    process = there.hub.process  # type: ignore[attr-defined]
    process.control.fault("kill", path="/commit/training-state", when="after_apply", skip=1)
    settings = {"steps": 30, "validate_every": 5, "save_every": 1}
    player = there.begin(*there.command(**settings), "--hub-repo", REPO)
    while process.proc.poll() is None and player.process.exitcode is None:
        time.sleep(0.05)
    assert process.proc.poll() is not None
    process.start()
    ended = player.wait()
    assert ended.code == 0, ended.output
    assert difference_of(there.run, straight) == []
    assert pushed_step(there) == 30
