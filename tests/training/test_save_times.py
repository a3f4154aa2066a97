import time

import pytest

from gemmazero.config import TrainConfig
from gemmazero.training.save_times import SECONDS_TO_NEXT_TRY, SaveTimes
from tiny_run import SETTINGS


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def times(**settings: object) -> SaveTimes:
    config = TrainConfig(**SETTINGS | {"steps": 100, "save_every": 10} | settings)
    return SaveTimes(config, config.steps)


def test_every_so_many_steps_and_never_by_the_clock_unless_asked(clock: Clock) -> None:
    plain = times()
    clock.now += 1e6
    assert [step for step in range(1, 31) if plain.is_due(step)] == [10, 20, 30]


def test_minutes_count_from_the_last_checkpoint(clock: Clock) -> None:
    by_clock = times(save_minutes=2.0)
    clock.now += 119
    assert not by_clock.is_due(3)
    clock.now += 1
    assert by_clock.is_due(3)
    by_clock.tried(saved=True)
    assert not by_clock.is_due(4)
    clock.now += 120
    assert by_clock.is_due(4)


def test_save_that_failed_is_tried_again_soon(clock: Clock) -> None:
    failing = times()
    failing.tried(saved=False)
    assert not failing.is_due(3)
    clock.now += SECONDS_TO_NEXT_TRY
    assert failing.is_due(3)
    failing.tried(saved=True)
    clock.now += 1e6
    assert not failing.is_due(4)


@pytest.mark.parametrize(("schedule", "hold"), [("wsd", 80), ("cosine", 0), ("constant", 0)])
def test_last_step_before_the_decay_of_wsd_is_saved(schedule: str, hold: int) -> None:
    held = times(schedule=schedule, save_every=1000)
    assert held.hold == hold
    assert [step for step in range(1, 101) if held.is_due(step)] == ([hold] if hold else [])
