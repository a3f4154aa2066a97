"""Which instants to kill at, so that every phase and every file operation of a save has its turn."""

import random
from collections import Counter
from collections.abc import Callable, Iterator

from crash.instants import CALL, MOVE, Instant
from crash.phases import BETWEEN, PREPARING_DATA, RESUMING, STARTING

TIMES = 5  # that each is to be hit, at least
SAVING = ("save", "best.json", "retention")  # whose file operations each have a turn of their own
_SECONDS, _COLD_SECONDS = 2.5, 9.0  # that a whole run takes, about; imports take most of a cold one
_CLOCKED, _COLD = 36, 36  # kills by the clock


def planned(
    seen: Counter[tuple[str, str, str]], kills: int, seed: int, is_wanted: Callable[[Instant], bool]
) -> list[Instant]:
    """``kills`` instants in a random order, seeded; 0 stands for as many as ``seen`` needs.

    Args:
        seen: how often each operation was met in a run that nobody killed, and in one that was resumed.
        kills: how many; fewer than needed are a sample.
        seed: of the choice.
        is_wanted: whether an instant may be among them.
    """
    chance = random.Random(f"plan {seed}")
    instants = list(_needed(seen, chance))
    instants += [Instant(seconds=chance.uniform(0.0, _SECONDS)) for _ in range(_CLOCKED)]
    instants += [Instant(seconds=chance.uniform(1.0, _COLD_SECONDS), is_cold=True) for _ in range(_COLD)]
    instants = [one for one in instants if is_wanted(one)]
    while len(instants) < kills:
        if is_wanted(one := _somewhere(seen, chance.choice(sorted(seen)), chance)):
            instants.append(one)
    chance.shuffle(instants)
    return instants[: kills or None]


def operations_of_a_save(seen: Counter[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The file operations of a save, of naming the best one, and of letting go of old ones."""
    return sorted(operation for operation in seen if operation[0] in SAVING and operation[1] not in (CALL, MOVE))


def _needed(seen: Counter[tuple[str, str, str]], chance: random.Random) -> Iterator[Instant]:
    of_a_save = operations_of_a_save(seen)
    for operation in sorted(seen):
        # One more than wanted: a kill may come to count for another phase, or its instant never come.
        times = TIMES + 1 if operation in of_a_save else TIMES + 2 if operation[1] in (CALL, MOVE) else 1
        yield from (_somewhere(seen, operation, chance) for _ in range(times))


def _somewhere(seen: Counter[tuple[str, str, str]], operation: tuple[str, str, str], chance: random.Random) -> Instant:
    """An instant of this kind: early or late in a run, but always where a run that was resumed may come to it."""
    phase, name, path = operation
    once = phase in (STARTING, RESUMING, PREPARING_DATA, BETWEEN)
    most = seen[operation] if once else max(1, seen[operation] // 2)
    return Instant(phase=phase, operation=name, path=path, occurrence=chance.randint(1, most))
