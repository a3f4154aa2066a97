"""One case, fed to its entry in a process of its own: what came of it, what it took."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gemmazero.errors import GemmaZeroError
from hostile.case import Case
from hostile.entries import ENTRIES, ToldError

CPU_SECONDS = 10
SECONDS = 60  # beside six for each of the processor's: for what waits without working, at a pipe without a writer
GROWTH_BYTES = 500 * 2**20
_ADDRESS_SPACE = 8 * 2**30  # beyond what the process has: spares the machine what the check of the growth would see

Outcome = Literal["refused", "read", "failed"]


@dataclass(frozen=True)
class Fed:
    """What came of a case; ``message`` is the error's, or of a failure all that is known of it."""

    case: str
    outcome: Outcome
    message: str
    cpu_seconds: float
    growth_bytes: int


def feed(case: Case, world: Path) -> Fed:
    """Spoil a copy of the case's part of ``world`` and let its entry read it, in a fork of this process."""
    with scratch(world.parent) as here:
        folder = here / "input"
        shutil.copytree(world / case.part, folder / case.part, symlinks=True)
        _in_a_fork(lambda: case.spoil(folder / case.part / case.file))
        return watched(case.id, lambda: ENTRIES[case.entry](world, folder), here / "said")


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder for a moment, however deep what comes to be in it."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def _in_a_fork(work: Callable[[], None]) -> None:
    """Do ``work``, but leave no trace of it in this process's memory."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0


def watched(case: str, read: Callable[[], None], said: Path, cpu_seconds: int = CPU_SECONDS) -> Fed:
    """Call ``read`` in a fork of this process, under limits; what it says goes to the file ``said``."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(writing, str(_resident_bytes()).encode())
        _call(read, said, cpu_seconds)
    before = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    _, status, usage = os.wait4(process, 0)
    outcome, message = _outcome(status, said.read_text(errors="replace"))
    return Fed(
        case=case,
        outcome=outcome,
        message=message,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        growth_bytes=usage.ru_maxrss * 1024 - before,
    )


def _call(read: Callable[[], None], said: Path, cpu_seconds: int) -> None:
    """Never returns."""
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 1
    try:
        signal.alarm(SECONDS + 6 * cpu_seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        try:
            read()
            code = 0
        except GemmaZeroError as error:
            print(error.message)
            code = 3
        except ToldError as error:
            print(error)
            code = 3
        except BaseException:
            sys.stdout.flush()
            traceback.print_exc()
        sys.stdout.flush()
    finally:
        os._exit(code)


def _outcome(status: int, said: str) -> tuple[Outcome, str]:
    if os.WIFSIGNALED(status):
        return "failed", f"{signal.Signals(os.WTERMSIG(status)).name}\n{said}"
    code = os.waitstatus_to_exitcode(status)
    if "panicked at" in said or "Traceback" in said:
        return "failed", said
    return {0: ("read", said), 3: ("refused", said)}.get(code, ("failed", said))  # type: ignore[return-value]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
