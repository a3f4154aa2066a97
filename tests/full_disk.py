"""What a full disk does: in a way that needs no disk, and with a small one that is full."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The write that would take a file beyond ``size`` bytes fails half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at ``folder``, in memory; skips the test where nobody may mount one."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, room: int) -> Path:
    """Let a file there take all but ``room`` bytes, whole pages of 4096; returns it."""
    filler = disk / "filler"
    system = os.statvfs(disk)
    taken = filler.stat().st_size if filler.exists() else 0
    size = taken + system.f_bavail * system.f_frsize - room
    with filler.open("ab") as file:
        if size < taken:
            file.truncate(size)
        else:
            os.posix_fallocate(file.fileno(), 0, size)
    return filler
