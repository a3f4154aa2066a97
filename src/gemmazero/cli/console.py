"""Results to stdout, talk to stderr; neither breaks on a narrow encoding."""

import json
import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import typer


def set_up() -> None:
    """Let every stream replace what its encoding cannot write or read; one that the shell closed is nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def result(text: str, end: str = "\n") -> None:
    """Write ``text`` to stdout, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def result_json(record: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout, on a line of its own, in ASCII: exact in every encoding.

    Raises ValueError for a number that JSON cannot say, such as NaN.
    """
    result(json.dumps(record, allow_nan=False))


def say(text: str = "", end: str = "\n") -> None:
    """Write ``text`` to stderr, at once."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


def problem(message: str, hint: str = "") -> None:
    """Write ``error: …`` and ``hint: …`` to stderr, a line each, never wrapped."""
    say(f"{styled('error:', fg='red', bold=True)} {message}")
    if hint:
        say(f"{styled('hint:', fg='cyan', bold=True)} {hint}")


def styled(text: str, **style: Any) -> str:
    """``text`` in typer's ``style`` where stderr is a terminal that wants colours; elsewhere ``text``."""
    return typer.style(text, **style) if is_terminal() and "NO_COLOR" not in os.environ else text


def is_terminal() -> bool:
    """Whether somebody watches stderr: then there are colours, and figures are redrawn in place."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def close_quietly() -> None:
    """Point stdout and stderr nowhere, after their reader has gone, so that no flush at exit complains."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
