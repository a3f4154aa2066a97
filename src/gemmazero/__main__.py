"""The program, as ``gemmazero`` and as ``python -m gemmazero``."""

import sys

from gemmazero.cli import signals


def main() -> None:
    """Run the command line and leave with its exit code."""
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
    sys.exit(code)


if __name__ == "__main__":
    main()
