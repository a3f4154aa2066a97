"""Machines that train, push, and are lost with all their disk at any instant, while the Hub has trouble of its own.

    python -m hub_crash [KILLS] [--seed N]

After each loss another machine begins with an empty disk, by ``resume USER/NAME`` or by the same command.
"""

import argparse
import json
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked import Player
from hub_server.faults import Fault
from hub_server.server import TOKEN, Account, serving
from hub_world import REPO, World, difference_of
from stock_loader import StockLoader, stock_loader
from tiny_run import prepare_data, write_preset

COURSE = {"steps": 60, "save_every": 1, "validate_every": 10}
TROUBLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "429, asking for a second": ("status", "POST|GET", {"status": 429, "headers": {"Retry-After": "1"}}),
    "429 to a commit": ("status", "POST .*/commit/", {"status": 429, "headers": {"Retry-After": "1"}}),
    "503": ("status", "POST|GET|PUT", {"status": 503}),
    "500 to a commit": ("status", "POST .*/commit/", {"status": 500}),
    "reset": ("reset", "POST|GET|PUT", {}),
    "reset after a commit or squash": ("reset", "POST .*/(commit|super-squash)/", {"when": "after"}),
    "hang": ("hang", "POST|PUT", {"seconds": 4.0}),
    "truncated download": ("truncate", "GET /objects/|GET .*/resolve/", {}),
    "damaged download": ("corrupt", "GET /objects/", {}),
    "upload dies half-way": ("half_read", "PUT /objects/", {}),
    "server dies before a commit": ("die", "POST .*/commit/", {"seconds": 0.5}),
    "server dies after a commit": ("die", "POST .*/commit/", {"seconds": 0.5, "when": "after"}),
    "token expires": ("expire", "objects/batch", {}),
    "quota is full": ("quota", "", {}),
}
WEIGHTS = "model.safetensors"
TOLD = r"HTTP \d+|could not be reached|storage is full|arrived damaged|has expired"


@dataclass
class Campaign:
    """What was seen of ``kills`` losses.

    ``happened`` counts each trouble where it was met, ``told`` what the program said of it.
    """

    world: World
    stock: StockLoader
    straight: Path
    chance: random.Random
    kills: int = 0
    runs: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    _in_force: dict[str, Fault] = field(default_factory=dict)
    _to_come: list[str] = field(default_factory=list)

    def fight(self, kills: int) -> None:
        """Whole runs, each of many lost machines, until there were so many losses."""
        self.world.hub.watchers.append(self._look)
        while self.kills < kills and not self.problems:
            self.world.hub.repos.clear()
            self.world.hub.faults.clear()
            self._one_run(kills)
            self.runs += 1
            print(f"{self.kills} machines lost in {self.runs} runs", file=sys.stderr, flush=True)

    def _one_run(self, kills: int) -> None:
        before = 0
        losses_left = min(8, kills - self.kills)
        while True:
            self.world.lose_the_machine()
            for _ in range(self.chance.randrange(4)):
                self._make_trouble()
            arguments = self._arguments(before)
            player = self.world.begin(*arguments, GEMMAZERO_HUB_TIMEOUT="3")  # less than a hang
            if losses_left and self._lose(player):
                losses_left -= 1
            ended = player.wait()
            self._end_trouble()
            self.told.update(re.findall(TOLD, ended.output))
            now = self.world.pushed_step()
            if now < before:
                self.problems.append(f"step {before} was on the Hub, then {now}")
            self.problems += self.world.problems_on_the_hub() if now else []
            before = now
            run = self.world.folder / ("runs/tiny" if arguments[0] == "resume" else "run")
            if ended.code == -signal.SIGKILL:
                self.kills += 1
            elif ended.code == 0 and now == COURSE["steps"]:
                self.problems += [f"different: {name}" for name in difference_of(run, self.straight)]
                best = run / "checkpoints" / json.loads((run / "best.json").read_text())["checkpoint"]
                if self.world.repo.state("main").get(WEIGHTS) != (best / WEIGHTS).read_bytes():
                    self.problems.append("main does not hold the best model")
                return
            elif ended.code != 1 or "error: " not in ended.output or "Traceback" in ended.output:
                self.problems.append(f"ended with {ended.code}: {ended.output}")
            if TOKEN in ended.output:
                self.problems.append("the token was told")
            if self.problems:
                return

    def _arguments(self, step: int) -> list[object]:
        if step and self.chance.random() < 0.6:
            return ["resume", REPO, "--data", self.world.data]
        return [*self.world.command(**COURSE), "--hub-repo", REPO]

    def _lose(self, player: Player) -> bool:
        """Kill the process at a random time, or right after a commit; whether it was alive."""
        if self.chance.random() < 0.5:
            player.process.join(self.chance.uniform(0.3, 6.0))
        else:
            count = self.chance.randrange(1, 6)
            seen: list[str] = []

            def kill(verb: str, _: str) -> None:
                seen.append(verb)
                if seen.count("commit") == count:
                    player.process.kill()

            self.world.hub.watchers.append(kill)
            player.process.join(20.0)
            self.world.hub.watchers.remove(kill)
        is_alive = player.process.exitcode is None
        player.process.kill()
        player.process.join()
        return is_alive or player.process.exitcode == -signal.SIGKILL

    def _look(self, verb: str, branch: str) -> None:
        self.problems += [f"after a {verb} of {branch}: {problem}" for problem in self.stock.problems(self.world.repo)]

    def _make_trouble(self) -> None:
        if not self._to_come:
            self._to_come = self.chance.sample(list(TROUBLES), len(TROUBLES))
        name = self._to_come.pop()
        do, pattern, how = TROUBLES[name]
        if do == "quota":
            self.world.hub.quota = self.world.hub.bytes_kept + 1000
        else:
            times, skip = self.chance.randrange(1, 4), self.chance.randrange(6)
            self._in_force[name] = self.world.hub.fail(do, pattern, times=times, skip=skip, **how)  # type: ignore[arg-type]

    def _end_trouble(self) -> None:
        hub = self.world.hub
        self.happened.update({name: fault.hits for name, fault in self._in_force.items()})
        self.happened["quota is full"] += hub.refused_for_quota
        self._in_force.clear()
        hub.faults.clear()
        hub.quota, hub.refused_for_quota = float("inf"), 0
        hub.accounts[TOKEN] = Account("tester", "write", ("lab",))


def fight(folder: Path, kills: int, seed: int) -> Campaign:
    """A campaign in ``folder``."""
    data, preset = prepare_data(folder / "animals", documents=80), write_preset(folder / "tiny.json")
    with serving() as hub, stock_loader(hub, folder / "stock") as stock:
        world = World(folder / "world", hub, preset, data)
        world.folder.mkdir()
        assert world.do(*world.command(**COURSE)).code == 0
        straight = world.run.rename(folder / "straight")
        campaign = Campaign(world, stock, straight, random.Random(seed))
        campaign.fight(kills)
    return campaign


def main() -> int:
    """0 where every run came to what the straight one came to, and nothing pushed was lost."""
    parser = argparse.ArgumentParser(prog="python -m hub_crash", description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hub-crash-"))
    campaign = fight(folder, options.kills, options.seed)
    print(f"{campaign.kills} machines lost in {campaign.runs} runs")
    print(f"main was loaded by transformers {campaign.stock.loaded} times, after every change of the repository")
    print("troubles that were met:", *(f"{campaign.happened[name]:4}  {name}" for name in TROUBLES), sep="\n")
    print("what was told:", *(f"{count:4}  {what}" for what, count in campaign.told.most_common()), sep="\n")
    print(*(f"FAILED: {problem}" for problem in campaign.problems), sep="\n")
    if not campaign.problems:
        shutil.rmtree(folder)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
