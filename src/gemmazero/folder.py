"""A folder, or a file, that appears whole or not at all, whatever happens while it is written."""

import errno
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

    A folder already called ``final`` stays until the new one is complete. On any failure the temporary folder goes.

    Raises:
        GemmaZeroError: the disk is full, or may not be written to.
    """
    temporary = final.with_name(f".{final.name}{_TEMPORARY}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        recover(final)
        temporary.mkdir()
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _sync(path)
        _sync(temporary)
        replaced = final.with_name(f".{final.name}{_REPLACED}")
        if final.exists():
            final.rename(replaced)
        temporary.rename(final)
        _sync(final.parent)
    except OSError as error:
        raise _explained(error, final) from error
    finally:
        recover(final)


def recover(final: Path) -> None:
    """Clear up after writing ``final``, or after a process that died doing so.

    Half-written parts go; the folder that was moved aside comes back where no new one has taken its place.
    """
    shutil.rmtree(final.with_name(f".{final.name}{_TEMPORARY}"), ignore_errors=True)
    replaced = final.with_name(f".{final.name}{_REPLACED}")
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)


def recover_all(parent: Path) -> None:
    """``recover`` every folder in ``parent``."""
    for suffix in (_TEMPORARY, _REPLACED):
        for path in sorted(parent.glob(f".*{suffix}")):
            recover(parent / path.name.removeprefix(".").removesuffix(suffix))


def discard(folder: Path) -> None:
    """Remove ``folder`` so that a crash half-way never leaves a part of it under its own name."""
    temporary = folder.with_name(f".{folder.name}{_TEMPORARY}")
    folder.rename(temporary)
    shutil.rmtree(temporary)


def write_file(path: Path, content: str | bytes) -> None:
    """Write ``path`` so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        GemmaZeroError: the disk is full, or may not be written to.
    """
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _explained(error, path) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, path: Path) -> GemmaZeroError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GemmaZeroError(f'the disk is full: cannot write "{path}"', "free some space, then run it again")
    return GemmaZeroError(f'cannot write "{path}": {error.strerror or error}')
