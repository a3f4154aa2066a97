"""The program, or a piece of Python, in a process that takes a loopback server for the Hub.

Clients read their environment when they are imported. So each process is forked from one that has torch imported, and
the Hub's client not.
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

PATIENCE = 200.0  # seconds
_PRELOADED = (
    "torch", "torch._dynamo", "matplotlib.figure", "matplotlib.backends.backend_agg", "gemmazero.cli.boundary",
    "gemmazero.cli.preparation", "gemmazero.api",
)  # fmt: skip
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


@dataclass
class Player:
    """A process that runs ``gemmazero …`` in ``folder``."""

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
    output = folder / f"output-{time.monotonic_ns()}.txt"
    target = (list(map(str, arguments)), str(folder), dict(environment), str(output))
    process = _context.Process(target=_run, args=target)
    process.start()
    return Player(process, output)


def ask(folder: Path, environment: Mapping[str, str], program: str) -> Any:
    """What ``program``, some statements, leaves in ``answer``, as JSON gives it back."""
    place = folder / f"answer-{time.monotonic_ns()}.json"
    output = place.with_suffix(".txt")
    process = _context.Process(target=_answer, args=(program, str(folder), dict(environment), str(output), str(place)))
    process.start()
    ended = Player(process, output).wait()
    assert ended.code == 0, ended.output
    return json.loads(place.read_text())


def _run(arguments: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    settle_in(folder, environment, output)
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


def _answer(program: str, folder: str, environment: dict[str, str], output: str, place: str) -> None:
    settle_in(folder, environment, output)
    names: dict[str, Any] = {}
    exec(program, names)
    Path(place).write_text(json.dumps(names["answer"]))


def settle_in(folder: str, environment: dict[str, str], output: str) -> None:
    """Take on an environment and a folder; what is written goes into the file ``output``."""
    assert "huggingface_hub" not in sys.modules, "it has read another environment"
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, target)
