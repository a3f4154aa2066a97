"""``gemmazero resume --verify``: what became of looking at a run's checkpoints → a table."""

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gemmazero.cli import console, units
from gemmazero.errors import CheckpointError

if TYPE_CHECKING:
    from gemmazero.storage.checkpoints import Inspection


def show(inspections: "Iterable[Inspection]", *, as_json: bool) -> None:
    """Print a row, or a JSON object, for each checkpoint as it is looked at.

    Raises:
        CheckpointError: one of them or more are damaged.
    """
    seen: list[Inspection] = []
    for inspection in inspections:
        if as_json:
            console.result_json(_record(inspection))
        else:
            if not seen:
                console.result(_row("step", "size", "state"))
            size = units.size(inspection.bytes) if inspection.bytes else "?"
            console.result(_row(f"{inspection.step:,}", size, _state(inspection)))
        seen.append(inspection)
    if damaged := sum(bool(inspection.reason) for inspection in seen):
        checkpoints = "1 checkpoint" if len(seen) == 1 else f"{len(seen)} checkpoints"
        raise CheckpointError(
            f"{damaged} of {checkpoints} {'is' if damaged == 1 else 'are'} damaged",
            _what_to_do([inspection for inspection in seen if not inspection.reason]),
        )


def _what_to_do(good: "list[Inspection]") -> str:
    if not good:
        return "gemmazero train begins a new run; --out names its folder"
    newest = max(good, key=lambda inspection: inspection.step)
    run = shlex.quote(str(newest.folder.parents[1]))
    return f"gemmazero resume {run} goes on from step {newest.step:,}, the newest good one"


def _row(step: str, size: str, state: str) -> str:
    return f"{step:>11}  {size:>9}  {state}"


def _state(inspection: "Inspection") -> str:
    """Without the folder's name, as the step stands there already."""
    return inspection.reason.removeprefix(f'"{inspection.folder}" ').removeprefix("is ") or "good"


def _record(inspection: "Inspection") -> dict[str, object]:
    return {
        "checkpoint": str(inspection.folder),
        "step": inspection.step,
        "bytes": inspection.bytes,
        "good": not inspection.reason,
        "reason": inspection.reason,
    }
