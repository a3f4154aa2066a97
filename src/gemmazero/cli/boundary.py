"""The one place where an error becomes ``error: …``, ``hint: …`` and an exit code."""

import shlex
import sys

from gemmazero.cli import console
from gemmazero.cli.app import app
from gemmazero.cli.explain import explain


def run() -> int:
    """Run the command line; returns its exit code. Without arguments it is ``--help``.

    What a user or the machine can cause is told in two lines; anything else is a bug of ours and keeps its traceback.
    """
    console.set_up()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="gemmazero", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        console.close_quietly()
        return 1
    except Exception as error:
        if _is_interruption(error):
            return _interrupted()
        told = explain(error)
        if told is None:
            raise
        message, hint, code = told
        console.problem(message, hint)
        console.close_quietly()
    if code == console.INTERRUPTED:  # typer's own word for Ctrl-C; a run that saved first leaves by SystemExit
        return _interrupted()
    return code if isinstance(code, int) else 0


def _is_interruption(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind ``error``: an import that it interrupts may fail with an error of another kind."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _interrupted() -> int:
    console.say(f"\nstopped at once by Ctrl-C; to do it again:\n  gemmazero {shlex.join(sys.argv[1:])}")
    return console.INTERRUPTED
