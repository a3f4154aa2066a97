"""A folder, or a file, that appears whole or not at all, whatever happens while it is written."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gemmazero.errors import GemmaZeroError

_TEMPORARY, _REPLACED = ".writing", ".replaced"


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """An empty temporary folder beside ``final``; on leaving it is synced to disk and takes the name ``final``.

    A folder already called ``final`` stays until the new one is complete; a link is followed. On any failure the
    temporary folder goes.

    Raises:
        GemmaZeroError: the disk is full or may not be written to, or another process is writing ``final``.
    """
    final = final.resolve()
    temporary = _beside(final, _TEMPORARY)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with claimed(temporary):
            _recover_replaced(final)
            for path in temporary.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            try:
                yield temporary
                for path in sorted(temporary.rglob("*")):
                    _sync(path)
                _sync(temporary)
                if final.exists():
                    final.rename(_beside(final, _REPLACED))
                temporary.rename(final)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                _recover_replaced(final)
                raise
            try:  # the temporary name is free from here on: what stands there is the next writer's
                _sync(final.parent)
            finally:
                _recover_replaced(final)
    except OSError as error:
        raise _explained(error, final) from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make ``folder`` where it is not there, and hold it for this process alone; a process that dies lets go of it.

    Raises:
        GemmaZeroError: another process holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                break
        except FileNotFoundError:  # it was renamed or removed before it was ours
            pass
        except BlockingIOError:
            os.close(descriptor)
            name = folder.name.removeprefix(".").removesuffix(_TEMPORARY)
            raise GemmaZeroError(
                f'"{folder.with_name(name)}" is in use by another process', "wait for it to end, or stop it"
            ) from None
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def recover(final: Path) -> None:
    """Clear up after writing ``final``, or after a process that died doing so.

    Half-written parts go; the folder that was moved aside comes back where no new one has taken its place.
    """
    shutil.rmtree(_beside(final, _TEMPORARY), ignore_errors=True)
    _recover_replaced(final)


def recover_all(parent: Path) -> None:
    """``recover`` every folder in ``parent``."""
    for suffix in (_TEMPORARY, _REPLACED):
        for path in sorted(parent.glob(f".*{suffix}")):
            recover(parent / path.name.removeprefix(".").removesuffix(suffix))


def discard(folder: Path) -> None:
    """Remove ``folder`` so that a crash half-way never leaves a part of it under its own name."""
    temporary = _beside(folder, _TEMPORARY)
    folder.rename(temporary)
    shutil.rmtree(temporary)


def write_file(path: Path, content: str | bytes) -> None:
    """Write ``path`` so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        GemmaZeroError: the disk is full, or may not be written to.
    """
    temporary = _beside(path, _TEMPORARY)
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _explained(error, path) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}{suffix}")


def _recover_replaced(final: Path) -> None:
    replaced = _beside(final, _REPLACED)
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, path: Path) -> GemmaZeroError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GemmaZeroError(f'the disk is full: cannot write "{path}"', "free some space, then run it again")
    return GemmaZeroError(f'cannot write "{path}": {error.strerror or error}', "check the path and its rights")
