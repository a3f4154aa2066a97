"""A process's own eye on itself: where it stands, and its death by SIGKILL when an instant is met."""

import json
import mmap
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from crash.instants import CALL, MOVE, Instant, plain
from crash.phases import BETWEEN, NAMES, begun_by, phase_of
from file_operations import intercepted

_MOVERS = {"_fused_adamw_", "optimizer_update_8bit_blockwise"}


class Board:
    """A byte of memory that two processes share: the phase of the one, for the other to read when the first is dead."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)
        self.phase = BETWEEN

    @property
    def phase(self) -> str:
        """The last one that was written."""
        return NAMES[self._memory[0]]

    @phase.setter
    def phase(self, phase: str) -> None:
        self._memory[0] = NAMES.index(phase)


class Watch:
    """Sees each file operation of this process, and each call and return in its main thread where that is wanted.

    Args:
        board: is told of the phase: at each change where calls are seen, else at the end.
        instant: the process kills itself when it is met.
        folder: paths are told as seen from here.
        sees_calls: takes as much time again as the program.
    """

    def __init__(self, board: Board, instant: Instant | None, folder: Path, *, sees_calls: bool) -> None:
        self.operations: Counter[tuple[str, str, str]] = Counter()  # by phase, operation and path
        self._board, self._folder, self._sees_calls = board, folder, sees_calls
        self._phases = [BETWEEN]
        self._awaited = None if instant is None else (instant.phase, instant.operation, instant.path)
        self._occurrence = 0 if instant is None else instant.occurrence

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, nothing goes unseen."""
        with intercepted(self._file_operation, below=self._folder):
            if self._sees_calls:
                sys.setprofile(self._call_or_return)
            try:
                yield
            finally:
                sys.setprofile(None)

    def record(self, file: Path) -> None:
        """Write what was seen, for ``read_record``."""
        file.write_text(json.dumps([[*operation, count] for operation, count in self.operations.items()]))

    def _call_or_return(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            name = frame.f_code.co_name
            if phase := begun_by(frame.f_code):
                self._phases.append(phase)
                self._board.phase = phase
        elif event == "c_call":
            name = argument.__name__
        else:
            if event == "return" and begun_by(frame.f_code):
                self._phases.pop()
                self._board.phase = self._phases[-1]
            return
        if name in _MOVERS:
            self._meet(self._phases[-1], MOVE, "")
        self._meet(self._phases[-1], CALL, "")

    def _file_operation(self, operation: str, path: Path) -> None:
        self._meet(phase_of(sys._getframe(1)), operation, plain(path, self._folder))

    def _meet(self, *operation: str) -> None:
        self.operations[operation] += 1
        if operation == self._awaited and self.operations[operation] == self._occurrence:
            self._board.phase = operation[0]
            os.kill(os.getpid(), signal.SIGKILL)


def read_record(file: Path) -> Counter[tuple[str, str, str]]:
    """What a watch saw: how often each operation was met, by phase, operation and path."""
    return Counter({tuple(operation): count for *operation, count in json.loads(file.read_text())})
