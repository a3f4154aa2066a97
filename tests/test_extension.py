"""``resume --steps N``: a run that is told to end later."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gemmazero.errors import CheckpointError, UsageError
from gemmazero.storage.checkpoint import list_checkpoints
from gemmazero.training.events import Finished, Resumed, Stepped
from gemmazero.training.settings import Request
from outcome import differences, outcome
from tiny_run import SETTINGS, train

STATE = "training/state.json"
OFTEN = (("wsd", 1), ("wsd", 6), ("cosine", 3), ("constant", 4))  # the others in `make test-slow`


@pytest.fixture
def request_of(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> Any:
    def make(name: str, **settings: Any) -> Request:
        wanted = SETTINGS | {"steps": 10, "validate_every": 4} | settings
        return Request(out=tmp_path / name, preset=str(tiny_preset), data=str(tiny_data), settings=wanted)

    return make


def extend(request: Request, steps: int, **settings: Any) -> list[Any]:
    return train(Request(out=request.folder, settings={"steps": steps} | settings, resumes=True))


def learned(events: list[Any]) -> list[tuple[int, float, float]]:
    return [(event.step, event.learning_rate, event.loss) for event in events if isinstance(event, Stepped)]


def saved_steps(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(run / "checkpoints")]


def state_of(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((list_checkpoints(run / "checkpoints")[-1] / STATE).read_text())
    return state


def outcome_but_for_extensions(run: Path) -> dict[str, Any]:
    """Without ``state.json``, which lists them, and without what it is summed in."""
    known = outcome(run)
    return {name: value for name, value in known.items() if not name.endswith(("state.json", "checkpoint.json"))}


def test_wsd_run_that_is_extended_is_the_run_that_was_to_be_so_long_from_the_start(request_of: Any) -> None:
    short, long = request_of("short", schedule="wsd"), request_of("long", schedule="wsd", steps=20)
    train(short)
    assert 8 in saved_steps(short.folder), "the last step before the decay"
    events = extend(short, 20)
    assert (type(events[0]), events[0].step, events[0].extension) == (Resumed, 8, "10 → 20 steps")
    train(long)
    told = [[line for line in known["told"] if line["event"] != "finished"] for known in (
        outcome_but_for_extensions(short.folder), outcome_but_for_extensions(long.folder)
    )]  # fmt: skip
    assert told[0] == told[1]
    ignoring = {"told"}
    first, second = (outcome_but_for_extensions(request.folder) for request in (short, long))
    assert [name for name in differences(first, second) if name not in ignoring] == []
    assert state_of(short.folder) == state_of(long.folder) | {
        "extensions": [{"step": 8, "steps_before": 10, "steps": 20}]
    }


def test_wsd_run_may_be_extended_before_its_end_and_again(request_of: Any) -> None:
    request = request_of("run", schedule="wsd")
    train(request, stop_after=5)
    assert extend(request, 20)[0].step == 5
    assert saved_steps(request.folder)[-1] == 20
    assert 16 in saved_steps(request.folder)
    events = extend(request, 30)
    assert events[0].step == 16
    straight = request_of("straight", schedule="wsd", steps=30)
    train(straight)
    first, second = (outcome_but_for_extensions(one.folder) for one in (request, straight))
    assert [name for name in differences(first, second) if name != "told"] == []
    assert [extension["step"] for extension in state_of(request.folder)["extensions"]] == [5, 16]


def test_wsd_run_without_a_checkpoint_from_before_its_decay_is_refused(request_of: Any) -> None:
    request = request_of("run", schedule="wsd")
    train(request)
    for path in list_checkpoints(request.folder / "checkpoints"):
        if path.name <= "step-00000008":
            path.rename(path.with_name(f"old-{path.name}"))
    before = {path: path.read_bytes() for path in request.folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="no good checkpoint of step 8 or before"):
        extend(request, 20)
    assert {path: path.read_bytes() for path in request.folder.rglob("*") if path.is_file()} == before


def test_constant_run_goes_on_as_if_it_had_never_been_to_end(request_of: Any) -> None:
    short, long = (request_of(name, schedule="constant", steps=steps) for name, steps in (("short", 8), ("long", 16)))
    first = [*learned(train(short)), *learned(extend(short, 16))]
    assert first == learned(train(long))
    one, other = (outcome_but_for_extensions(request.folder) for request in (short, long))
    assert [name for name in differences(one, other) if name != "told"] == []


def test_cosine_finishes_its_curve_and_stays_at_the_minimum(request_of: Any) -> None:
    request = request_of("run", schedule="cosine", min_learning_rate=1e-3)
    straight = learned(train(request_of("straight", schedule="cosine", min_learning_rate=1e-3)))
    train(request, stop_after=5)
    events = extend(request, 14)
    assert learned(events)[:5] == straight[5:]
    assert [rate for _, rate, _ in learned(events)[4:]] == pytest.approx([1e-3] * 5)
    assert isinstance(events[-1], Finished)
    assert events[-1].step == 14


@pytest.mark.parametrize(
    ("schedule", "place"),
    [
        pytest.param(schedule, place, marks=() if (schedule, place) in OFTEN else pytest.mark.slow)
        for schedule in ("wsd", "constant", "cosine")
        for place in range(1, 9)
    ],
)
def test_extended_run_that_is_stopped_goes_on_to_the_same_end(schedule: str, place: int, request_of: Any) -> None:
    settings = {"schedule": schedule, "min_learning_rate": 1e-3}
    runs = [request_of(name, **settings) for name in ("straight", "stopped")]
    for request in runs:
        train(request)
        if request is runs[0]:
            extend(request, 16)
            continue
        seen = 0

        def stop_at_place(event: Any) -> bool:
            nonlocal seen
            seen += 1
            return seen == place

        train(Request(out=request.folder, settings={"steps": 16}, resumes=True), stop_when=stop_at_place)
        train(request_of("stopped", **settings | {"steps": 16}))
    assert differences(*(outcome(request.folder) for request in runs)) == []


def test_extension_that_was_killed_before_its_first_checkpoint_is_not_forgotten(request_of: Any) -> None:
    request = request_of("run", schedule="wsd")
    train(request)
    events = train(Request(out=request.folder, settings={"steps": 20}, resumes=True), stop_after=8)
    assert events[-1].step == 8
    record = json.loads((request.folder / "run.json").read_text())
    assert (record["train"]["steps"], record["extensions"]) == (20, [{"step": 8, "steps_before": 10, "steps": 20}])
    events = train(Request(out=request.folder, resumes=True))
    assert (events[0].step, events[-1].step) == (8, 20)


def test_finished_run_that_is_not_extended_stays_finished(request_of: Any) -> None:
    request = request_of("run")
    last = train(request)[-1]
    assert extend(request, 10) == [last]
    with pytest.raises(UsageError, match="can only grow"):
        extend(request, 9)
    with pytest.raises(UsageError, match="cannot become 12") as raised:
        train(request_of("run", steps=12))
    assert "resume RUN --steps 12" in raised.value.hint


def test_cosine_that_ended_at_nothing_is_extended_with_a_warning(request_of: Any) -> None:
    request = request_of("run", schedule="cosine", min_learning_rate=0.0)
    train(request)
    assert "nothing is learned" in extend(request, 11)[0].extension


def test_loss_of_an_extended_run_is_a_number(request_of: Any) -> None:
    request = request_of("run", schedule="constant")
    train(request)
    assert math.isfinite(extend(request, 11)[-1].validation_loss)
