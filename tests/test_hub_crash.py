"""A part of `make test-hub`."""

from pathlib import Path

import pytest

from hub_crash import fight


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lost_machines_under_trouble_end_as_the_run_that_knows_no_hub(tmp_path: Path) -> None:
    campaign = fight(tmp_path, kills=12, seed=2)
    assert campaign.problems == []
    assert campaign.kills == 12
    assert campaign.stock.loaded > 0
