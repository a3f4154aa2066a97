"""Machines that train, push, and are lost with all their disk at any instant, while the Hub has trouble of its own.

    python -m hub_crash [KILLS] [--seed N]

After each loss another machine begins with an empty disk, by ``resume USER/NAME`` or by the same command.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hub_server.player import Player
from hub_server.server import TOKEN, Account, serving
from hub_world import REPO, World, difference_of
from tiny_run import prepare_data, write_preset

COURSE = {"steps": 60, "save_every": 1, "validate_every": 10}
TROUBLES = (
    ("status", "POST|GET", {"status": 429, "headers": {"Retry-After": "1"}}),
    ("status", "POST|GET|PUT", {"status": 503}),
    ("reset", "POST|GET|PUT", {}),
    ("reset", "POST .*/(commit|super-squash)/", {"when": "after"}),
    ("hang", "POST|PUT", {"seconds": 4.0}),
    ("truncate", "GET /objects/|GET .*/resolve/", {}),
    ("corrupt", "GET /objects/", {}),
    ("half_read", "PUT /objects/", {}),
    ("die", "POST .*/commit/", {"seconds": 0.5}),
    ("die", "POST .*/commit/", {"seconds": 0.5, "when": "after"}),
    ("expire", "objects/batch", {}),
    ("quota", "", {}),
)


@dataclass
class Campaign:
    """What was seen of ``kills`` losses."""

    world: World
    straight: Path
    chance: random.Random
    kills: int = 0
    runs: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def fight(self, kills: int) -> None:
        """Whole runs, each of many lost machines, until there were so many losses."""
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
            troubles = [self._make_trouble() for _ in range(self.chance.randrange(3))]
            arguments = self._arguments(before)
            player = self.world.begin(*arguments, GEMMAZERO_HUB_TIMEOUT="3")  # less than a hang
            if losses_left and self._lose(player):
                losses_left -= 1
            ended = player.wait()
            self._end_trouble()
            now = self.world.pushed_step()
            if now < before:
                self.problems.append(f"step {before} was on the Hub, then {now}")
            self.problems += self.world.problems_on_the_hub() if now else []
            before = now
            run = self.world.folder / ("runs/tiny" if arguments[0] == "resume" else "run")
            if ended.code == -signal.SIGKILL:
                self.kills += 1
                self.seen.update(troubles or ["none"])
            elif ended.code == 0 and now == COURSE["steps"]:
                self.problems += [f"different: {name}" for name in difference_of(run, self.straight)]
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
            self.world.hub.watchers.append(
                lambda branch: seen.append(branch) or len(seen) < count or player.process.kill()
            )
            player.process.join(20.0)
            self.world.hub.watchers.clear()
        is_alive = player.process.exitcode is None
        player.process.kill()
        player.process.join()
        return is_alive or player.process.exitcode == -signal.SIGKILL

    def _make_trouble(self) -> str:
        do, pattern, how = self.chance.choice(TROUBLES)
        if do == "quota":
            self.world.hub.quota = self.world.hub.bytes_kept + 1000
        else:
            times = self.chance.randrange(1, 4)
            self.world.hub.fail(do, pattern, times=times, skip=self.chance.randrange(20), **how)  # type: ignore[arg-type]
        return f"{do} {how.get('status', '')} {how.get('when', '')}".strip()

    def _end_trouble(self) -> None:
        hub = self.world.hub
        hub.faults.clear()
        hub.quota = float("inf")
        hub.accounts[TOKEN] = Account("tester", "write", ("lab",))


def fight(folder: Path, kills: int, seed: int) -> Campaign:
    """A campaign in ``folder``."""
    data, preset = prepare_data(folder / "animals", documents=80), write_preset(folder / "tiny.json")
    with serving() as hub:
        world = World(folder / "world", hub, preset, data)
        world.folder.mkdir()
        assert world.do(*world.command(**COURSE)).code == 0
        straight = world.run.rename(folder / "straight")
        campaign = Campaign(world, straight, random.Random(seed))
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
    print(*(f"{count:4}  {trouble}" for trouble, count in campaign.seen.most_common()), sep="\n")
    print(*(f"FAILED: {problem}" for problem in campaign.problems), sep="\n")
    if not campaign.problems:
        shutil.rmtree(folder)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
