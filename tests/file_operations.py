"""Every file operation of this process, seen right before it happens; for tests that let it fail, or die there.

    with intercepted(before):              # below=folder: of that folder alone
        ...

``before(operation, path)`` is told, in the order in which the program does them:

``open``        a file is opened to be written to: it may be made, or emptied
``write``       bytes are handed to the system; for safetensors, all of a file's
``torn write``  half of them have arrived, the other half has not
``truncate``, ``fsync``, ``mkdir``, ``rename`` (the new name is told), ``replace`` (the same), ``unlink``, ``rmdir``,
``chmod``       what ``os`` calls so

and with ``changes_only=False`` also those that change nothing: ``read`` (a file or a folder is opened), ``list``,
``close`` (of a file that was written). What ``before`` raises is raised by the operation, which then has not happened.
Its own file operations are not told of.
"""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
from safetensors import SafetensorError

Before = Callable[[str, Path], None]

_BY_NAME = {"mkdir": "mkdir", "unlink": "unlink", "remove": "unlink", "rmdir": "rmdir", "chmod": "chmod"}
_BY_NAME |= {"truncate": "truncate", "ftruncate": "truncate", "fsync": "fsync"}
_LISTING = {"listdir": "list", "scandir": "list"}
_TO_NEW_NAME = ("rename", "replace")
_QUIET = ("read", "list", "close")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@contextmanager
def intercepted(before: Before, below: Path | None = None, *, changes_only: bool = True) -> Iterator[None]:
    """Within, ``before`` is called as the head of this file says."""
    seen = _Seen(before, below, changes_only)
    with ExitStack() as patches:
        for module, name, replacement in tuple(_replacements(seen)):  # all of them, of the real ones
            patches.enter_context(mock.patch.object(module, name, replacement))
        yield


class _Seen:
    """Tells ``before`` of what it wants to know."""

    def __init__(self, before: Before, below: Path | None, changes_only: bool) -> None:
        self._before = before
        self._below = None if below is None else below.absolute()
        self._untold = set(_QUIET) if changes_only else set()
        self._is_telling = False

    def __call__(self, operation: str, place: Any, folder: int | None = None) -> None:
        """``place`` is a path, seen from the open ``folder`` where there is one, or a descriptor."""
        if self._is_telling or operation in self._untold:
            return
        path = _path_of(place, folder)
        if path is None or (self._below is not None and not path.is_relative_to(self._below)):
            return
        self._is_telling = True
        try:
            self._before(operation, path)
        finally:
            self._is_telling = False


class _WrittenFile(io.FileIO):
    """A file that tells of what is done to it, as far as the system learns of it."""

    seen: _Seen

    def write(self, data: Any, /) -> int:
        """Hand over ``data`` in two halves."""
        content = bytes(data)
        half = len(content) // 2
        self.seen("write", self.fileno())
        written = super().write(content[:half])
        if written < half:
            return written
        self.seen("torn write", self.fileno())
        return written + super().write(content[half:])

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file."""
        self.seen("truncate", self.fileno())
        return super().truncate(size)

    def close(self) -> None:
        """Close the file, whatever is raised."""
        try:
            if not self.closed:
                self.seen("close", self.fileno())
        finally:
            super().close()


def _replacements(seen: _Seen) -> Iterator[tuple[Any, str, Any]]:
    """Module, name, and what stands there meanwhile."""
    for name, operation in (_BY_NAME | _LISTING).items():
        yield os, name, _telling(getattr(os, name), operation, seen)
    for name in _TO_NEW_NAME:
        yield os, name, _telling_of_new_name(getattr(os, name), name, seen)
    yield os, "open", _os_open(os.open, seen)
    yield os, "write", _os_write(os.write, seen)
    opened = _open(io.open, seen)
    yield io, "open", opened
    yield builtins, "open", opened
    yield safetensors.torch, "serialize_file", _serialize_file(safetensors.torch.serialize_file, seen, io.open)


def _telling(real: Any, operation: str, seen: _Seen) -> Any:
    def replacement(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        seen(operation, path, options.get("dir_fd"))
        return real(path, *arguments, **options)

    return replacement


def _telling_of_new_name(real: Any, operation: str, seen: _Seen) -> Any:
    def replacement(source: Any, target: Any, **options: Any) -> Any:
        seen(operation, target, options.get("dst_dir_fd"))
        return real(source, target, **options)

    return replacement


def _os_open(real: Any, seen: _Seen) -> Any:
    def replacement(path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
        seen("open" if flags & _WRITING else "read", path, options.get("dir_fd"))
        return real(path, flags, *arguments, **options)

    return replacement


def _os_write(real: Any, seen: _Seen) -> Any:
    def replacement(descriptor: int, data: Any) -> int:
        half = len(data) // 2
        seen("write", descriptor)
        written: int = real(descriptor, data[:half])
        if written < half:
            return written
        seen("torn write", descriptor)
        return written + int(real(descriptor, data[half:]))

    return replacement


def _open(real: Any, seen: _Seen) -> Any:
    """``open``, whose files for writing are made of the same parts, around a ``_WrittenFile``."""

    def replacement(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        is_written = any(letter in mode for letter in "wax+")
        if not isinstance(file, int):
            seen("open" if is_written else "read", file)
        if not is_written:
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _WrittenFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.seen = seen
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return replacement


def _serialize_file(real: Any, seen: _Seen, real_open: Any) -> Any:
    """safetensors' own writer, which tells of an error of the system's in words."""

    def replacement(tensors: Any, path: Any, *arguments: Any, **options: Any) -> None:
        try:
            seen("write", path)
            real(tensors, path, *arguments, **options)
            with real_open(path, "r+b", buffering=0) as file:
                rest = file.seek(os.fstat(file.fileno()).st_size // 2)
                content = file.read()
                file.truncate(rest)
                seen("torn write", path)
                file.seek(rest)
                file.write(content)
        except OSError as error:
            told = f"Error while serializing: I/O error: {error.strerror} (os error {error.errno})"
            raise SafetensorError(told) from error

    return replacement


def _path_of(place: Any, folder: int | None) -> Path | None:
    """The absolute path; None for what is no file, a pipe for one."""
    named = _named(place) if isinstance(place, int) else os.fsdecode(place)
    return None if named is None else Path(os.path.abspath(os.path.join(_named(folder) or "", named)))  # noqa: PTH100, PTH118


def _named(descriptor: int | None) -> str | None:
    if descriptor is None:
        return None
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return None
    return name.removesuffix(" (deleted)") if name.startswith("/") else None
