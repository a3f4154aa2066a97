"""What a campaign saw, as tables; and what it should have seen and did not."""

from collections import Counter
from collections.abc import Iterator, Sequence

from crash.campaign import Seen
from crash.course import PREPARING, VARIANTS
from crash.instants import CALL, CLOCK, MOVE
from crash.phases import ALL
from crash.plan import SAVING, TIMES, operations_of_a_save

LEAST_KILLS, LEAST_SHARE = 300, 0.3
_ORDER = ("mkdir", "open", "truncate", "write", "torn write", "chmod", "fsync", "rename", "replace", "unlink", "rmdir")


def tables(seen: Seen) -> str:
    """The phases, the file operations of a save, the kinds of runs, and all of it in a few numbers; in Markdown."""
    kills = [kill for _, kill in seen.kills]
    inside, advanced = inside_a_save(seen), sum(kill.step_after > kill.step_before for kill in kills)
    resumed = sum(kill.step_before > 0 for kill in kills)
    told = [
        f"{len(kills)} kills in {seen.runs} runs, {inside} of them ({inside / max(1, len(kills)):.0%}) inside a save;",
        f"{resumed} of the killed processes had gone on from a checkpoint, {advanced} had saved a newer one;",
        f"{len(seen.problems)} problems: differences at the end, unreadable runs, steps lost, files left behind.",
    ]
    return "\n\n".join(["\n".join(rows) for rows in (_phases(seen), _operations(seen), _variants(seen), told)])


def inside_a_save(seen: Seen) -> int:
    """Kills while a checkpoint was written."""
    return sum(kill.phase == "save" for _, kill in seen.kills)


def shortfalls(seen: Seen) -> Iterator[str]:
    """What a whole campaign should have hit, and did not."""
    if len(seen.kills) < LEAST_KILLS:
        yield f"{len(seen.kills)} kills, not {LEAST_KILLS}"
    if inside_a_save(seen) < LEAST_SHARE * len(seen.kills):
        yield f"{inside_a_save(seen)} of {len(seen.kills)} kills inside a save, not {LEAST_SHARE:.0%}"
    hits = Counter(kill.phase for _, kill in seen.kills)
    yield from (f"{hits[phase]} kills while {phase}, not {TIMES}" for phase in ALL if hits[phase] < TIMES)
    kinds = Counter(variant for variant, _ in seen.kills)
    yield from (f"{kinds[one]} kills of {one.name}, not {TIMES}" for one in VARIANTS if kinds[one] < TIMES)
    met = _met(seen)
    for operation in operations_of_a_save(seen.operations):
        if met[operation] < TIMES:
            yield f"{met[operation]} kills at {' '.join(operation)}, not {TIMES}"
    if {operation[0] for operation in operations_of_a_save(seen.operations)} != set(SAVING):
        yield f"no file operations seen in one of {', '.join(SAVING)}"


def _met(seen: Seen) -> Counter[tuple[str, str, str]]:
    """How often a process was killed right before each operation."""
    return Counter((kill.phase, kill.instant.operation, kill.instant.path) for _, kill in seen.kills)


def _phases(seen: Seen) -> list[str]:
    kinds = ("a file operation", CALL, MOVE, CLOCK)
    hits = Counter(
        (kill.phase, kill.instant.operation if kill.instant.operation in kinds else kinds[0]) for _, kill in seen.kills
    )
    rows = [[phase, *(hits[phase, kind] for kind in kinds), sum(hits[phase, kind] for kind in kinds)] for phase in ALL]
    return _markdown(["killed while", *(f"at {kind}" for kind in kinds), "in all"], rows)


def _operations(seen: Seen) -> list[str]:
    met, there = _met(seen), operations_of_a_save(seen.operations)
    names = [name for name in _ORDER if any(name == own for _, own, _ in there)]
    places = dict.fromkeys((phase, path) for phase in SAVING for own, _, path in there if own == phase)
    rows = [
        [f"{phase}: {path.removeprefix('run/').replace('.step-N.writing', '…')}"]
        + [str(met[phase, name, path]) if (phase, name, path) in there else "" for name in names]
        for phase, path in places
    ]
    return _markdown(["killed right before", *names], rows)


def _variants(seen: Seen) -> list[str]:
    kills = Counter(variant for variant, _ in seen.kills)
    kinds = dict.fromkeys((one.micro_batch_size, one.gradient_checkpointing) for one in VARIANTS)
    rows = [
        [f"{precision}, {optimizer}"]
        + [
            kills[one]
            for kind in kinds
            for one in VARIANTS
            if (one.precision, one.optimizer, one.micro_batch_size, one.gradient_checkpointing)
            == (precision, optimizer, *kind)
        ]
        for precision, optimizer in dict.fromkeys((one.precision, one.optimizer) for one in VARIANTS)
    ]
    rows.append([f"fp32, adamw, --data {PREPARING.source}", kills[PREPARING], "", "", ""])
    heads = [
        " and ".join(filter(None, ["accumulation" * (size < 8), "gradient checkpointing" * frugal])) or "neither"
        for size, frugal in kinds
    ]
    return _markdown(["kills of", *heads], rows)


def _markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.rjust(width) if index else cell.ljust(width)
                          for index, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in cells
    ]  # fmt: skip
    rule = "| " + " | ".join("-" * (width - 1) + (":" if index else "-") for index, width in enumerate(widths)) + " |"
    return [lines[0], rule, *lines[1:]]
