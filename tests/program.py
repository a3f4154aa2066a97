"""The program as a user's shell runs it, with no terminal in sight."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def run(folder: Path, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """``python -m gemmazero …`` in ``folder``, to its end; ``options`` as for ``subprocess.run``."""
    command = [sys.executable, "-m", "gemmazero", *map(str, arguments)]
    source = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, **source, **options
    )
