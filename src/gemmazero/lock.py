"""One process at a time: a lock file that holds its holder's process id, and that a dying process lets go of."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gemmazero.errors import GemmaZeroError


@contextmanager
def locked(file: Path, name: Path) -> Iterator[None]:
    """Hold the lock ``file`` for this process alone; ``name`` is what it stands for. It is gone afterwards.

    One that a process left which was killed is taken over. A link is not followed.

    Raises:
        GemmaZeroError: another process holds it, or this one by another call; its id is told. Or the disk refuses.
    """
    descriptor = _acquired(file, name)
    try:
        with suppress(OSError):  # where the disk is full, the lock holds and its holder goes unnamed
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):  # what stays is nobody's, and taken over
            file.unlink()
        os.close(descriptor)


def clear_stale(file: Path) -> None:
    """Remove a lock file that a killed process left; one that is held, or cannot be removed, stays."""
    if file.exists():
        with suppress(GemmaZeroError, OSError), locked(file, file):
            pass


def _acquired(file: Path, name: Path) -> int:
    """A descriptor of the locked file, which is still the one that stands there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), file.lstat()):
                    return descriptor
            except FileNotFoundError:  # its last holder removed it before it was ours
                pass
            except BlockingIOError:
                raise _in_use(descriptor, name) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    except OSError as error:
        raise GemmaZeroError(
            f'cannot write "{name}": {error.strerror or error}', "check the path, its rights, and the room on its disk"
        ) from error


def _in_use(descriptor: int, name: Path) -> GemmaZeroError:
    """The error that names the holder, unless its id is not, or not all, written yet."""
    with os.fdopen(descriptor, "rb") as file:
        holder = re.fullmatch(rb"(\d+)\n", file.read(20))
    if holder is None:
        return GemmaZeroError(f'"{name}" is in use by another process', "wait for it to end, or stop it")
    process = int(holder[1])
    return GemmaZeroError(f'"{name}" is in use by process {process}', f"wait for it to end, or stop it: kill {process}")
