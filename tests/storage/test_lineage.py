import dataclasses
import json
from typing import Any

import pytest

from gemmazero.config import TrainConfig
from gemmazero.run_config import DataReference, Extension, RunConfig
from gemmazero.storage.lineage import State
from tiny_run import MODEL, SETTINGS

DATA = DataReference(folder="data", manifest_digest="a", tokenizer_digest="b", source="c", revision=None, options={})
RUN = RunConfig(run_id="one", preset="tiny", model=MODEL, train=TrainConfig(**SETTINGS), data=DATA)
EXTENDED = dataclasses.replace(RUN, extensions=(Extension(step=2, steps_before=6, steps=9),))


def line(step: int, event: str = "stepped", **more: Any) -> str:
    return json.dumps({"event": event, "step": step, **more})


def state(step: int, *after: str, config: RunConfig = RUN, extensions: tuple[Extension, ...] = ()) -> State:
    """One that has done so many steps, and what comes after them in its history."""
    history = (*(line(number) for number in range(1, step + 1)), *after)
    last = json.loads(history[-1])["step"] if history else 0
    return State(config=config, step=last, extensions=extensions, history=history)


def test_more_of_the_same_history_comes_after_and_less_does_not() -> None:
    assert state(5).comes_after(state(3))
    assert not state(3).comes_after(state(5))
    assert state(3).comes_after(state(3))
    assert state(3, line(3, "validated")).comes_after(state(3))
    assert not state(3).comes_after(state(3, line(3, "validated")))


def test_of_two_that_parted_neither_comes_after_the_other() -> None:
    one, other = state(3, line(4, loss=1.0)), state(3, line(4, loss=2.0), line(5))
    assert not one.comes_after(other)
    assert not other.comes_after(one)


def test_another_run_never_comes_after() -> None:
    assert not state(5, config=dataclasses.replace(RUN, run_id="two")).comes_after(state(3))


def test_a_run_that_went_back_comes_after_where_it_went_back_from() -> None:
    back = state(3, line(3, "rolled_back", from_step=6, skipped=[4]), line(4, loss=1.0))
    assert back.comes_after(state(6))
    assert not state(6).comes_after(back)
    assert not back.comes_after(state(7))


def test_a_run_that_was_extended_from_an_earlier_step_comes_after_its_old_end() -> None:
    assert state(2, line(3, loss=1.0), config=EXTENDED, extensions=EXTENDED.extensions).comes_after(state(6))
    assert state(2, config=EXTENDED).comes_after(state(6))
    assert not state(6).comes_after(state(2, line(3, loss=1.0), config=EXTENDED, extensions=EXTENDED.extensions))


def test_a_run_that_was_told_to_go_on_for_longer_comes_after_the_same_state_before() -> None:
    assert state(2, config=EXTENDED).comes_after(state(2))
    assert not state(2).comes_after(state(2, config=EXTENDED))


@pytest.mark.parametrize("step", [0, 3])
def test_a_state_tells_its_run_and_its_step(step: int) -> None:
    assert str(state(step)) == f"run one at step {step}"
