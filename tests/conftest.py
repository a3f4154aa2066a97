import signal
from functools import partial
from pathlib import Path

import pytest

from program import Program, run
from tiny_run import prepare_data, write_preset

# A suite that runs in the background begins with Ctrl-C ignored, and its children would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def gemmazero(tmp_path: Path) -> Program:
    """Runs ``gemmazero …`` in ``tmp_path``."""
    return partial(run, tmp_path)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 80 small documents, in bytes; read only."""
    return prepare_data(tmp_path_factory.mktemp("tiny") / "animals", documents=80)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config file of a model of 29 thousand parameters."""
    return write_preset(tmp_path_factory.mktemp("tiny") / "tiny.json")
