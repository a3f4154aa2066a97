"""Processes that are forked from one which has torch imported, and the Hub's client not: each begins seconds sooner.

Clients of the Hub read their environment when they are imported, so each process is given its own.
"""

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gemmazero.runtime import wait_politely

PATIENCE = 200.0  # seconds
_PRELOADED = (
    "torch", "torch._dynamo", "pandas", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "gemmazero.cli.boundary", "gemmazero.cli.preparation", "gemmazero.api",
)  # fmt: skip
wait_politely()  # is for the processes, which inherit it
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The files that a process reads and writes."""

    input: str = os.devnull
    output: str
    errors: str


@dataclass
class Player:
    """A process, and the file with what it wrote."""

    process: BaseProcess
    output: Path

    def wait(self) -> "Ended":
        """How it ended. Raises TimeoutError where it does not."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(self.output.read_text())
        return Ended(self.process.exitcode, self.output.read_text())


@dataclass(frozen=True)
class Ended:
    """How a process ended, and all that it wrote."""

    code: int
    output: str


def play(folder: Path, environment: Mapping[str, str], *arguments: object) -> Player:
    """Begin ``gemmazero …`` in ``folder``."""
    output = str(folder / f"output-{time.monotonic_ns()}.txt")
    return play_with(Streams(output=output, errors=output), folder, environment, *arguments)


def play_with(streams: Streams, folder: Path, environment: Mapping[str, str], *arguments: object) -> Player:
    """Begin ``gemmazero …`` in ``folder``; tells of what it writes to stdout."""
    target = (list(map(str, arguments)), str(folder), dict(environment), streams)
    process = _context.Process(target=_run, args=target)
    process.start()
    return Player(process, Path(streams.output))


def ask(folder: Path, environment: Mapping[str, str], program: str) -> tuple[Any, str]:
    """What ``program``, some statements, leaves in ``answer``, as JSON gives it back; and what it wrote."""
    place = folder / f"answer-{time.monotonic_ns()}.json"
    output = str(place.with_suffix(".txt"))
    target = (program, str(folder), dict(environment), Streams(output=output, errors=output), str(place))
    process = _context.Process(target=_answer, args=target)
    process.start()
    ended = Player(process, Path(output)).wait()
    assert ended.code == 0, ended.output
    return json.loads(place.read_text()), ended.output


def settle_in(folder: str, environment: Mapping[str, str], streams: Streams) -> None:
    """Take on an environment, a folder and what is read and written."""
    assert "huggingface_hub" not in sys.modules, "it has read another environment"
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(streams.input, os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    for path, target in ((streams.output, 1), (streams.errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: Streams) -> None:
    settle_in(folder, environment, streams)
    from gemmazero.__main__ import main

    sys.argv = ["gemmazero", *arguments]
    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _answer(program: str, folder: str, environment: dict[str, str], streams: Streams, place: str) -> None:
    settle_in(folder, environment, streams)
    names: dict[str, Any] = {}
    exec(program, names)
    Path(place).write_text(json.dumps(names["answer"]))
