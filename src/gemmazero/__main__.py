"""The program, as ``gemmazero`` and as ``python -m gemmazero``."""

import gc
import os
import sys
import threading

if sys.platform == "win32":
    sys.exit("error: GemmaZero does not run on Windows itself\nhint: install a Linux in it, with wsl --install")

from gemmazero.cli import signals


def main() -> None:
    """Run the command line and leave with its exit code, whatever a push to the Hub still waits for."""
    try:
        signals.install()
        from gemmazero.cli.boundary import run
        from gemmazero.runtime import wait_politely

        wait_politely()
        code = run()
    except (KeyboardInterrupt, signals.Terminated) as error:
        code = signals.stopped_at_once(signals.behind(error))
    finally:
        signals.ignore()
    if any(thread.name == "hub" for thread in threading.enumerate()):  # its client's own threads would be waited for
        from gemmazero.cli.console import close_quietly

        close_quietly()
        os._exit(code)
    gc.freeze()  # or the interpreter ends by a search for garbage in all of torch and transformers, which takes seconds
    sys.exit(code)


if __name__ == "__main__":
    main()
