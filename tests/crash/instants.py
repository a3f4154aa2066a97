"""Where a process is killed: at a file operation, at a step of its Python, or whenever the clock says so."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

CALL = "a call"  # of a function, written in Python or in C
MOVE = "weights moved"  # of one group of parameters, or of one parameter: an optimizer step moves several in turn
CLOCK = "any time"


@dataclass(frozen=True, order=True, kw_only=True)
class Instant:
    """Right before the ``occurrence``-th ``operation`` on ``path`` in ``phase``, or ``seconds`` after the start.

    Args:
        phase: one of ``phases.NAMES``; empty for the clock.
        operation: a file operation, CALL, MOVE or CLOCK.
        path: as ``plain`` makes it; empty where it is not a file operation.
        occurrence: counted from 1, in one process.
        seconds: for the clock.
        is_cold: in a process that is ``python -m gemmazero`` and nothing else.
    """

    phase: str = ""
    operation: str = CLOCK
    path: str = ""
    occurrence: int = 1
    seconds: float = 0.0
    is_cold: bool = False

    def sooner(self) -> "Instant":
        """The same, likelier to be met by a process that has little left to do."""
        return replace(self, occurrence=1 + self.occurrence // 4, seconds=self.seconds * 0.7)


def plain(path: str | Path, folder: str | Path) -> str:
    """``path`` as seen from ``folder``, without the numbers that differ from step to step."""
    return re.sub(r"step-\d+", "step-N", os.path.relpath(path, folder))
