"""A run that is killed again and again, and what is seen of it after each kill and at its end."""

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crash.course import RUN, Variant, commands, furnish
from crash.instants import CALL, CLOCK, MOVE, Instant
from crash.phases import OPENING, PREPARING_DATA, RESUMING, STARTING
from crash.remains import damages, is_finished, leftovers, newest_step, repeated_steps, step_begun_at
from crash.session import OUTPUT, Ended, cold, forked
from outcome import differences, outcome


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A process that died of SIGKILL, and how."""

    instant: Instant
    phase: str
    step_before: int  # of the newest checkpoint when the process began
    step_after: int


@dataclass(kw_only=True)
class Played:
    """What became of a run. ``unmet`` are the instants that it ended before."""

    variant: Variant
    seed: int
    kills: list[Kill] = field(default_factory=list)
    unmet: list[Instant] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    operations: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    outcome: dict[str, Any] = field(default_factory=dict)


def play(
    folder: Path,
    variant: Variant,
    instants: Sequence[Instant],
    seed: int,
    straight: Mapping[str, Any] | None = None,
    *,
    takes_census: bool = False,
) -> Played:
    """Run ``variant`` in ``folder`` to its end, killed at each of the ``instants`` where it comes to them.

    Args:
        folder: is made, and is gone afterwards, unless there is a problem.
        variant: what is run.
        instants: one a process, in this order where they can be met.
        seed: of what does not matter to the result: how often it saves, how it is called again.
        straight: the outcome that it must come to.
        takes_census: whether calls are counted among the operations of the processes that end by themselves.
    """
    played = Played(variant=variant, seed=seed, unmet=list(instants))
    furnish(folder)
    try:
        _play(folder, played, takes_census)
        played.outcome = _outcome(folder)
        played.problems += _problems_at_the_end(folder, played, straight)
    except Exception as error:
        played.problems.append(f"{type(error).__name__}: {error}")
    if played.problems:
        played.problems.append(f"to look at: {folder}")
    else:
        shutil.rmtree(folder)
    return played


def _play(folder: Path, played: Played, takes_census: bool) -> None:
    """Each command again and again until it ends by itself; the last one once more, when there is nothing to do."""
    chance, run = random.Random(played.seed), folder / RUN
    typed = commands(played.variant, save_every=chance.choice((1, 1, 2)), keep=chance.choice((1, 2)))
    for command in typed:
        while True:
            before, was_finished = newest_step(run), is_finished(run)
            instant = next((one for one in played.unmet if _may_meet(one, command, folder)), None)
            is_resumed = (run / "run.json").is_file() and chance.random() < 0.3
            sees_calls = takes_census if instant is None else instant.operation in (CALL, MOVE, CLOCK)
            ended = _session(("resume", RUN) if is_resumed else command, folder, instant, played.variant, sees_calls)
            played.problems += damages(run)
            if instant is not None:
                played.unmet.remove(instant)
            if not ended.is_killed:
                break
            phase = _named(ended.phase, before)
            played.kills.append(Kill(instant=instant, phase=phase, step_before=before, step_after=newest_step(run)))
        if instant is not None:
            played.unmet.append(instant)
        played.operations.update({(_named(phase, before), *rest): n for (phase, *rest), n in ended.operations.items()})
    if not was_finished and step_begun_at(run) != before:
        played.problems.append(f"the last process began at step {step_begun_at(run)}, with a checkpoint of {before}")
    _session(typed[-1], folder, None, played.variant, sees_calls=False)


def _session(
    command: Sequence[str], folder: Path, instant: Instant | None, variant: Variant, sees_calls: bool
) -> Ended:
    """A process that was killed at ``instant``, or that came to its end. Raises AssertionError for any other."""
    if instant is not None and instant.is_cold:
        ended = cold(command, folder, instant)
    else:
        is_opening = instant is not None and instant.phase in (STARTING, RESUMING)
        met = replace(instant, phase=OPENING) if instant is not None and is_opening else instant
        ended = forked(command, folder, met, is_overflowing=variant.is_overflowing, sees_calls=sees_calls)
    if ended.code != 0 and not (ended.is_killed and instant is not None):
        told = (folder / OUTPUT).read_text(errors="replace")[-2000:]
        raise AssertionError(f"gemmazero {' '.join(command)} ended with {ended.code}:\n{told}")
    return ended


def _may_meet(instant: Instant, command: Sequence[str], folder: Path) -> bool:
    """Whether a process of ``command`` may come to this instant."""
    has_data, has_checkpoint = any(folder.glob("data/*/manifest.json")), newest_step(folder / RUN) > 0
    if instant.phase == PREPARING_DATA:
        return not has_data
    if command[0] == "prepare":
        return False
    return {STARTING: not has_checkpoint, RESUMING: has_checkpoint}.get(instant.phase, True)


def _named(phase: str, step: int) -> str:
    """The phase of a process that began with a checkpoint of ``step``."""
    return phase if phase != OPENING else RESUMING if step else STARTING


def _outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same: of the run, and of the data that was prepared for it."""
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "data").rglob("*")
        if path.is_file()
    }
    return outcome(folder / RUN) | digests


def _problems_at_the_end(folder: Path, played: Played, straight: Mapping[str, Any] | None) -> Iterator[str]:
    if straight is not None and (different := differences(played.outcome, dict(straight))):
        yield f"different from the run that was never killed: {', '.join(different)}"
    if left := leftovers(folder):
        yield f"left behind: {', '.join(left)}"
    if repeated := repeated_steps(folder / RUN):
        yield f"metrics.jsonl repeats or leaves out steps around {repeated[0]}"
    if lost := [kill for kill in played.kills if kill.step_after < kill.step_before]:
        yield f"a kill {lost[0].phase} took the run from step {lost[0].step_before} back to {lost[0].step_after}"
