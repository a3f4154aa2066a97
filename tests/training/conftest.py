from pathlib import Path

import pytest

import gemmazero
from tiny_run import SETTINGS


@pytest.fixture(scope="session")
def saved_often(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that knows no Hub, with its checkpoints of steps 2, 4 and 6; read only."""
    run = tmp_path_factory.mktemp("saved_often") / "run"
    settings = SETTINGS | {"save_every": 2, "keep": 9}
    gemmazero.train(preset=str(tiny_preset), data=str(tiny_data), out=run, **settings).run()
    return run
