"""The program, as ``gemmazero`` and as ``python -m gemmazero``."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from gemmazero.cli.boundary import run
        from gemmazero.runtime import wait_politely
    except KeyboardInterrupt:
        sys.exit(130)
    wait_politely()
    sys.exit(run())


if __name__ == "__main__":
    main()
