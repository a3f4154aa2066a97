from functools import partial
from pathlib import Path

import pytest

from program import Program, run


@pytest.fixture
def gemmazero(tmp_path: Path) -> Program:
    """Runs ``gemmazero …`` in ``tmp_path``."""
    return partial(run, tmp_path)
