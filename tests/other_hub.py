"""Another loopback Hub, where there is one beside the repository: nobody who wrote a test here wrote it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "shared" / "tools" / "hub"
needs_other_hub = pytest.mark.skipif(not TOOL.is_dir(), reason="there is no other loopback Hub beside the repository")
_RETRIES = {"MAX_ATTEMPTS": "2", "BASE_DELAY": "100ms"}
_QUICK = {
    "HF_HUB_ETAG_TIMEOUT": "3",
    "HF_HUB_DOWNLOAD_TIMEOUT": "3",
    "HF_XET_CLIENT_READ_TIMEOUT": "3s",
    "GEMMAZERO_HUB_TIMEOUT": "5",
    **{f"HF_XET_CLIENT_RETRY_{name}": value for name, value in _RETRIES.items()},
}


@contextmanager
def other_hub(folder: Path, *, xet: bool) -> Iterator[Any]:
    """Its process, which keeps what it holds in ``folder``."""
    sys.path.insert(0, str(TOOL))
    try:
        from hubserver import HubProcess
    finally:
        sys.path.remove(str(TOOL))
    with HubProcess(folder) as process:
        if xet:
            process.control.config(xet="cas")
        yield process


def environment_of(process: Any, home: Path, *, token: str, xet: bool) -> dict[str, str]:
    """What makes a child process take it for the Hub, and give up soon where it does not answer."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    theirs: dict[str, str] = process.env(home, token=token, xet=xet)
    return ours | theirs | _QUICK
