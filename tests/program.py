"""The program as a user's shell runs it, with no terminal in sight."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from forked import Streams, play_with

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def run(folder: Path, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """``python -m gemmazero …`` in ``folder``, to its end; ``options`` as for ``subprocess.run``."""
    command = [sys.executable, "-m", "gemmazero", *map(str, arguments)]
    source = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, **source, **options
    )


def run_forked(folder: Path, *arguments: object, input: str = "") -> "subprocess.CompletedProcess[str]":  # noqa: A002
    """``gemmazero …`` in ``folder``, to its end, in a process that begins with torch imported: seconds sooner."""
    with TemporaryDirectory() as place:
        read, output, errors = (f"{place}/{name}.txt" for name in ("input", "output", "errors"))
        Path(read).write_text(input, encoding="utf-8")
        streams = Streams(input=read, output=output, errors=errors)
        ended = play_with(streams, folder, os.environ | {"COLUMNS": "100"}, *arguments).wait()
        told = Path(errors).read_text(encoding="utf-8")
        return subprocess.CompletedProcess(list(arguments), ended.code, ended.output, told)
