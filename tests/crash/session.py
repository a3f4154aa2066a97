"""One process of the program, from its start to its end or its SIGKILL."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crash.instants import CLOCK, Instant
from crash.phases import UNWATCHED
from crash.watch import Board, Watch, read_record

PATIENCE = 300.0  # seconds; a process that takes longer hangs
OUTPUT, _RECORD = "output.txt", "operations.json"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended: ``code`` is -9 after SIGKILL. ``phase`` is what it was doing last."""

    code: int
    phase: str
    operations: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # of one that ended by itself

    @property
    def is_killed(self) -> bool:
        """Whether it died of SIGKILL, and of nothing else."""
        return self.code == -signal.SIGKILL


def cold(arguments: Sequence[str], folder: Path, instant: Instant | None) -> Ended:
    """``python -m gemmazero …`` in ``folder``: a process that nobody watches, killed when the clock says so.

    Raises TimeoutError where it hangs.
    """
    with (folder / OUTPUT).open("ab") as output:
        command = [sys.executable, "-m", "gemmazero", *arguments]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            code = process.wait(PATIENCE if instant is None else instant.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            if instant is None:
                raise _hanging(arguments) from None
    return Ended(code=code, phase=UNWATCHED)


def forked(
    arguments: Sequence[str], folder: Path, instant: Instant | None, *, is_overflowing: bool, sees_calls: bool
) -> Ended:
    """The program in ``folder``, in a process that begins with torch imported, and that is watched.

    Args:
        arguments: of the command line.
        folder: where it works.
        instant: when it is killed.
        is_overflowing: see ``overflow``.
        sees_calls: see ``Watch``.

    Raises TimeoutError where it hangs.
    """
    board = Board()
    is_clocked = instant is not None and instant.operation == CLOCK
    process = os.fork()
    if process == 0:
        code = 70
        try:
            watch = Watch(board, None if is_clocked else instant, folder, sees_calls=sees_calls)
            code = _live(arguments, folder, watch, is_overflowing)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + (instant.seconds if instant is not None and is_clocked else PATIENCE)
    while not (waited := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() >= end:
            os.kill(process, signal.SIGKILL)
            waited = os.waitpid(process, 0)
            if not is_clocked:
                raise _hanging(arguments)
            break
        time.sleep(0.001)
    code = os.waitstatus_to_exitcode(waited[1])
    record = folder / _RECORD
    return Ended(code=code, phase=board.phase, operations=read_record(record) if code == 0 else Counter())


def _hanging(arguments: Sequence[str]) -> TimeoutError:
    return TimeoutError(f"gemmazero {' '.join(arguments)} has not ended after {PATIENCE:.0f} seconds")


def _live(arguments: Sequence[str], folder: Path, watch: Watch, is_overflowing: bool) -> int:
    """The life of a forked process: ``gemmazero …`` as its own ``main`` runs it."""
    from gemmazero.__main__ import main

    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    if is_overflowing:
        overflow()
    sys.argv = ["gemmazero", *arguments]
    code = 0
    with watch.watching():
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    sys.stdout.flush()
    watch.record(folder / _RECORD)
    return code


def overflow() -> None:
    """From here on torch's own GradScaler begins with a scale that overflows, and grows too far every second step."""
    import torch

    scaler: Callable[..., object] = partial(
        torch.amp.GradScaler, init_scale=2.0**40, growth_factor=256.0, growth_interval=2
    )
    torch.amp.GradScaler = scaler  # type: ignore[misc, assignment]
