"""The one place where an error becomes ``error: …``, ``hint: …`` and an exit code."""

import sys

from gemmazero.cli import console, signals
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
    except (KeyboardInterrupt, signals.Terminated) as error:
        return signals.stopped_at_once(signals.behind(error))
    except SystemExit as leaving:  # a run that was stopped, and saved
        return leaving.code if isinstance(leaving.code, int) else 1
    except BrokenPipeError:
        console.close_quietly()
        return 1
    except Exception as error:
        if name := signals.behind(error):
            return signals.stopped_at_once(name)
        told = explain(error)
        if told is None:
            raise
        message, hint, code = told
        console.problem(message, hint)
        console.close_quietly()
    if code == signals.exit_code(signals.CTRL_C):  # typer's own word for it
        return signals.stopped_at_once(signals.CTRL_C)
    return code if isinstance(code, int) else 0
