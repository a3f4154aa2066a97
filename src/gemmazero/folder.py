"""A folder, or a file, that appears whole or not at all, whatever happens while it is written."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gemmazero.errors import GemmaZeroError
from gemmazero.lock import locked

_TEMPORARY, _REPLACED, _LOCK, _UNFINISHED = ".writing", ".replaced", ".lock", ".unfinished"
_LEFT = re.compile(r"\.(.+)\.(?:writing|replaced|lock|unfinished)")


@contextmanager
def whole_folder(final: Path, *, is_continued: bool = False) -> Iterator[Path]:
    """An empty temporary folder beside ``final``; on leaving it is synced to disk and takes the name ``final``.

    A folder already called ``final`` stays until the new one is complete; a link is followed. On any failure the
    temporary folder goes. But where it ``is_continued``, what it holds stays, as it does when the process is killed,
    and the next call finds it; the folder that it is in is its own, and has room for notes that go with it.

    Raises:
        GemmaZeroError: the disk is full or may not be written to, or another process is writing ``final``.
    """
    final = real(final)
    temporary = _unfinished(final) if is_continued else _beside(final, _TEMPORARY)
    with _explaining(f'cannot write "{final}"'), _without_empty_parents(final), locked(_beside(final, _LOCK), final):
        _recover(final)
        temporary.mkdir(parents=is_continued, exist_ok=is_continued)
        try:
            yield temporary
            sync_all(temporary)
            if final.exists():
                final.rename(_beside(final, _REPLACED))
            temporary.rename(final)
            _sync(final.parent)
        finally:
            _recover(final)


def real(path: Path) -> Path:
    """``path`` without links; a ring of them stays one, which nothing can be written to."""
    return Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a ring, before Python 3.13


def clear_leftovers(final: Path) -> None:
    """``recover``, as far as it can be done, where a process left something and none is writing ``final``."""
    final = real(final)
    if any(os.path.lexists(_beside(final, suffix)) for suffix in (_TEMPORARY, _REPLACED, _LOCK, _UNFINISHED)):
        with suppress(GemmaZeroError):
            recover(final)


def lock_of(final: Path) -> Path:
    """The lock file of whoever writes ``final``."""
    return _beside(real(final), _LOCK)


def recover(final: Path) -> None:
    """Clear up after a process that died while it wrote ``final``, a folder or a file.

    Half-written parts go, but for those that a next call is to go on with; the folder that was moved aside comes back
    where no new one has taken its place.

    Raises:
        GemmaZeroError: a process is writing it now, or the disk refuses.
    """
    with _explaining(f'cannot recover "{final}"'), locked(_beside(final, _LOCK), final):
        _recover(final)


def recover_all(parent: Path) -> None:
    """``recover`` everything in ``parent``, where that is there. Raises GemmaZeroError."""
    with _explaining(f'cannot recover "{parent}"'):
        names = [path.name for path in parent.iterdir()] if parent.exists() else []
    for name in sorted({match[1] for match in map(_LEFT.fullmatch, names) if match}):
        recover(parent / name)


def discard(folder: Path) -> None:
    """Remove ``folder``, so that neither a failure nor a crash leaves a part of it under its own name.

    Raises:
        GemmaZeroError: the disk refuses; what may be left goes with ``recover``.
    """
    temporary = _beside(folder, _TEMPORARY)
    with _explaining(f'cannot remove "{folder}"'):
        _remove(temporary)
        folder.rename(temporary)
        _remove(temporary)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises GemmaZeroError where the disk that ``folder`` is on, or would be on, has less room than that."""
    with _explaining(f'cannot write "{folder}"'):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise GemmaZeroError(
            f'the disk is full: "{folder}" needs {_size(needed_bytes)}, {_size(free)} are free',
            "free some space, then run it again",
        )


def sync_all(folder: Path) -> None:
    """Have the disk hold all that is below ``folder``. Raises OSError."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            sync_all(path)
        else:
            _sync(path)
    _sync(folder)


def write_file(path: Path, content: str | bytes) -> None:
    """Write ``path`` so that a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        GemmaZeroError: the disk is full, or may not be written to.
    """
    temporary = _beside(path, _TEMPORARY)
    with _explaining(f'cannot write "{path}"'):
        try:
            if temporary.is_symlink():  # nobody's file but ours is written to
                temporary.unlink()
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name}{suffix}"


def _recover(final: Path) -> None:
    replaced, temporary = _beside(final, _REPLACED), _beside(final, _TEMPORARY)
    if replaced.exists() and not final.exists():
        replaced.rename(final)
    with suppress(OSError):  # what stays is in nobody's way, but in that of the next writer, who is told
        _remove(temporary)
        if os.path.lexists(replaced):  # what bears this name comes back: never half of it
            replaced.rename(temporary)
            _remove(temporary)
    for left in _stale(_unfinished(final)):
        with suppress(OSError):
            _remove(left)


@contextmanager
def _without_empty_parents(final: Path) -> Iterator[None]:
    """Of the folders that are made for ``final`` to stand in, none stays where nothing came to stand."""
    absent = [parent for parent in final.parents if not parent.exists()]
    try:
        yield
    finally:
        for parent in absent:
            with suppress(OSError):
                parent.rmdir()


def _unfinished(final: Path) -> Path:
    return _beside(final, _UNFINISHED) / "folder"


def _stale(unfinished: Path) -> list[Path]:
    """What is around an unfinished folder, where that is gone, or empty, or only a link leads there."""
    try:
        is_real = unfinished.is_dir() and not unfinished.is_symlink() and not unfinished.parent.is_symlink()
        return [] if is_real and any(unfinished.iterdir()) else [unfinished.parent]
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds, where there is one. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explaining(failure: str) -> Iterator[None]:
    """Within, an OSError becomes a GemmaZeroError that says what ``failure`` it means."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GemmaZeroError(f"the disk is full: {failure}", "free some space, then run it again") from error
        raise GemmaZeroError(f"{failure}: {error.strerror or error}", "check the path and its rights") from error


def _size(count: int) -> str:
    """``count`` bytes as people say it: "1.2 GB"."""
    unit, scale = next(((unit, scale) for unit, scale in (("GB", 1e9), ("MB", 1e6)) if count >= scale), ("kB", 1e3))
    return f"{count / scale:.1f} {unit}"
