"""A regular file and nothing else: never a pipe that waits for a writer, never a device without an end."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open the file at ``path`` for reading; a link is followed. Raises OSError, also for what is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:  # no name of a file: it holds a NUL
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """What the file at ``path`` holds. Raises OSError, before anything is read, where it is larger than the limit."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise OSError(errno.EFBIG, f"it has {size} bytes, and at most {limit_bytes} are read", str(path))
        return file.read(size)


def leads_out(path: Path, folder: Path) -> bool:
    """Whether ``path``, followed through every link, ends elsewhere than below ``folder``."""
    try:
        end = path.resolve()
        return end.is_symlink() or not end.is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a ring of links, which from Python 3.13 on ends in one of them
        return True
