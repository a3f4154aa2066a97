"""Many runs, killed at all the instants of a plan, some at once."""

import importlib
import itertools
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash.course import PREPARING, Variant
from crash.instants import CALL, Instant
from crash.phases import PREPARING_DATA
from crash.plan import planned
from crash.play import Kill, Played, play
from crash.session import PATIENCE

_KILLS_A_RUN = 10
_TRIES = 6  # for an instant that a run came to its end before
_PROGRAM = (  # what a process that is forked finds imported; with it, a run takes seconds in place of ten
    "torch", "torch._dynamo", "bitsandbytes", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "gemmazero.cli.boundary", "gemmazero.cli.preparation", "gemmazero.training.run",
)  # fmt: skip


@dataclass(kw_only=True)
class Seen:
    """All that a campaign saw."""

    runs: int = 0
    kills: list[tuple[Variant, Kill]] = field(default_factory=list)
    operations: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # the most of each in one process
    problems: list[str] = field(default_factory=list)
    never_met: list[Instant] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What ``play`` is given."""

    variant: Variant
    instants: Sequence[Instant] = ()
    straight: dict[str, Any] | None = None
    takes_census: bool = False


class Campaign:
    """Runs of ``variants`` in ``folder``, ``processes`` at once; those with a problem stay there.

    Each variant has a run that is never killed, and its share of all others must come to the same.
    """

    def __init__(self, folder: Path, variants: Sequence[Variant], seed: int, processes: int) -> None:
        self.seen = Seen()
        self._folder, self._variants, self._seed = folder, variants, seed
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_import_the_program)
        self._number = 0
        self._straight: dict[Variant, dict[str, Any]] = {}

    def fight(self, kills: int, *, is_wanted: Callable[[Instant], bool]) -> Seen:
        """``kills`` kills, at the instants of a plan that are wanted."""
        with self._pool:
            counted = {one.optimizer: one for one in self._variants if one != PREPARING}  # one of each
            straight = self._play(_Task(variant=one, takes_census=one in counted.values()) for one in self._variants)
            self._straight = {played.variant: played.outcome for played in straight}
            self._look_at_a_second_process()
            instants = planned(self.seen.operations, kills, self._seed, is_wanted)
            for _ in range(_TRIES):
                unmet = [one for played in self._play(self._dealt(instants)) for one in played.unmet]
                instants = [one.sooner() for one in unmet]
        self.seen.never_met = instants
        return self.seen

    def _look_at_a_second_process(self) -> None:
        """What a resumed process does; and that one that is watched comes to what one comes to that nobody watches."""
        middle = Instant(phase="save", operation="fsync", path="run/checkpoints", occurrence=3)
        unwatched = Instant(seconds=PATIENCE, is_cold=True)
        plain = [one for one in self._variants if not one.is_overflowing and one != PREPARING]
        some = dict.fromkeys([*plain[:1], *plain[-1:]] or self._variants[:1])
        self._play(self._task(one, [middle], takes_census=True) for one in some)
        self._play(self._task(one, [unwatched]) for one in some if one in plain)

    def _task(self, variant: Variant, instants: Sequence[Instant], *, takes_census: bool = False) -> _Task:
        straight = self._straight[variant]
        return _Task(variant=variant, instants=instants, straight=straight, takes_census=takes_census)

    def _dealt(self, instants: Sequence[Instant]) -> list[_Task]:
        """Runs that come to all of the instants that suit any of them, each variant in turn."""
        left, tasks = [one for one in instants if any(_suits(one, variant) for variant in self._variants)], []
        for variant in itertools.cycle(self._variants):
            taken = [one for one in left if _suits(one, variant)][:_KILLS_A_RUN]
            if not left:
                return tasks
            if taken:
                left = [one for one in left if not any(one is other for other in taken)]
                tasks.append(self._task(variant, taken))
        raise AssertionError

    def _play(self, tasks: Iterable[_Task]) -> list[Played]:
        futures = []
        for task in tasks:
            self._number += 1
            name, seed = f"{self._number:03d}-{task.variant.name}", self._seed * 1000 + self._number
            futures.append(self._pool.submit(
                play, self._folder / name, task.variant, task.instants, seed, task.straight,
                takes_census=task.takes_census,
            ))  # fmt: skip
        return [self._take(future.result()) for future in as_completed(futures)]

    def _take(self, played: Played) -> Played:
        """Add what became of one run, and tell of it."""
        seen = self.seen
        seen.runs += 1
        seen.kills += [(played.variant, kill) for kill in played.kills]
        seen.operations |= played.operations
        problems = [f"{played.variant.name}: {problem}" for problem in played.problems]
        seen.problems += problems
        print(f"{len(seen.kills)} kills in {seen.runs} runs", *problems, sep="\n  ", file=sys.stderr)
        return played


def _suits(instant: Instant, variant: Variant) -> bool:
    """Whether this instant is one for a run of this variant."""
    if variant == PREPARING:
        return instant.operation != CALL and instant.phase == PREPARING_DATA and "animals" not in instant.path
    return "sample" not in instant.path and not (instant.is_cold and variant.is_overflowing)


def _import_the_program() -> None:
    for module in _PROGRAM:
        importlib.import_module(module)
