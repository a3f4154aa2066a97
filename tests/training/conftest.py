from pathlib import Path

import pytest

from tiny_run import finished_run


@pytest.fixture(scope="session")
def saved_often(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that knows no Hub, with its checkpoints of steps 2, 4 and 6; read only."""
    return finished_run(tmp_path_factory.mktemp("saved_often") / "run", tiny_data, tiny_preset, save_every=2, keep=9)
