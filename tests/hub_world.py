"""A folder with the tiny model's config and data, a loopback Hub, and processes in it that train there."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Ended, Player, ask, play
from hub_server.server import TOKEN, HubServer
from hub_server.store import Repo
from outcome import differences, outcome
from tiny_run import SETTINGS

REPO = "tester/tiny"
HEAVY = "training-state"
_OF_HEAVY_ALONE = {"run.json", ".gitattributes"}


@dataclass
class World:
    """What a test has at hand."""

    folder: Path
    hub: HubServer
    preset: Path
    data: Path

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.folder / "run"

    @property
    def repo(self) -> Repo:
        """The repository of the run, on the server."""
        return self.hub.repos[REPO]

    def train(self, *more: object, token: str = TOKEN, **settings: object) -> Player:
        """``gemmazero train``, on the Hub's repository."""
        return self.begin(*self.command(**settings), "--hub-repo", REPO, *more, token=token)

    def command(self, **settings: object) -> list[str]:
        """That trains the tiny model, without a Hub."""
        options = SETTINGS | settings
        return ["train", "--preset", str(self.preset), "--data", str(self.data), "--out", "run"] + [
            word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]

    def begin(self, *arguments: object, token: str = TOKEN, **variables: str) -> Player:
        """``gemmazero …``."""
        return play(self.folder, self.hub.environment(self.folder / "home", token=token, **variables), *arguments)

    def do(self, *arguments: object, token: str = TOKEN, **variables: str) -> Ended:
        """``gemmazero …``, to its end."""
        return self.begin(*arguments, token=token, **variables).wait()

    def ask(self, program: str, token: str = TOKEN, **variables: str) -> Any:
        """What ``program`` leaves in ``answer``."""
        return ask(self.folder, self.hub.environment(self.folder / "home", token=token, **variables), program)[0]

    def lose_the_machine(self) -> None:
        """All that is on its disk: the run, and the Hub's cache."""
        for name in ("run", "runs", "home", "data"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def pushed_step(self) -> int:
        """The step on the Hub, judged without the program's own code; 0 where there is none."""
        if REPO not in self.hub.repos or f"refs/heads/{HEAVY}" not in self.repo.refs:
            return 0
        files = self.repo.state(HEAVY)
        return json.loads(files["checkpoint.json"])["step"] if "checkpoint.json" in files else 0

    def problems_on_the_hub(self) -> list[str]:
        """What must never be: a file that is not as its manifest says, on either branch."""
        found = []
        for branch in ("main", HEAVY):
            files = self.repo.state(branch)
            name = "gemmazero.json" if branch == "main" else "checkpoint.json"
            if name not in files:
                continue
            told = json.loads(files[name])["files"]
            entries = told if branch == "main" else {**told["model"], **told["training"]}
            for path, entry in entries.items():
                if path not in files or len(files[path]) != entry["size"]:
                    found.append(f"{branch}: {path}")
            if branch == HEAVY:
                own = {path for path in files if not path.startswith("best/")} - _OF_HEAVY_ALONE - {name}
                found += [f"{branch}: {path} does not belong there" for path in own - set(entries)]
        return found


def wait_for(file: Path) -> None:
    """Returns once it is there."""
    end = time.monotonic() + 100
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.02)


def difference_of(run: Path, straight: Path) -> list[str]:
    """What is not the same in two runs that must be."""
    return differences(outcome(run), outcome(straight))
