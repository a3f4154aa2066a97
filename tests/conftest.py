import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from hub_server.server import serving
from hub_world import World
from program import Program, run
from tiny_run import prepare_data, write_preset

# A suite that runs in the background begins with Ctrl-C ignored, and its children would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A thread that waits for another spins, and the cores are all taken by the suite's other process.
torch.set_num_threads(1)

# Hypothesis fails a case that took 200 ms, which is a matter of what else the machine does.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs a CUDA device is passed over, with this reason, where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")


@pytest.fixture
def gemmazero(tmp_path: Path) -> Program:
    """Runs ``gemmazero …`` in ``tmp_path``."""
    return partial(run, tmp_path)


@pytest.fixture
def world(tmp_path: Path, tiny_data: Path, tiny_preset: Path) -> Iterator[World]:
    """A loopback Hub, and processes that take it for the Hub."""
    with serving() as hub:
        yield World(tmp_path, hub, tiny_preset, tiny_data)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 80 small documents, in bytes; read only."""
    return prepare_data(tmp_path_factory.mktemp("tiny") / "animals", documents=80)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config file of a model of 29 thousand parameters."""
    return write_preset(tmp_path_factory.mktemp("tiny") / "tiny.json")
