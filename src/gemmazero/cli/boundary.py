"""The one place where an error becomes ``error: …``, ``hint: …`` and an exit code."""

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
        return console.INTERRUPTED
    except BrokenPipeError:
        console.close_quietly()
        return 1
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        message, hint, code = told
        console.problem(message, hint)
        console.close_quietly()
    return code if isinstance(code, int) else 0
