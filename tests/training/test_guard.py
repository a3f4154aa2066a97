"""Bad batches are made by a hook of torch: the module that takes token ids gives NaN for the batches a test names."""

import json
import math
import random
import string
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.errors import TrainingError
from gemmazero.storage.checkpoint import Checkpoint, list_checkpoints
from gemmazero.storage.model_folder import load_model
from gemmazero.training import guard
from gemmazero.training.events import Finished, RolledBack, Skipped, Stepped
from gemmazero.training.guard import last_anchor, wrong_with
from gemmazero.training.settings import Request
from gemmazero.training.trainer import Trainer
from outcome import differences, outcome
from tiny_run import SETTINGS, make_trainer, step, train

Bad = Callable[..., Any]


@contextmanager
def bad_batches(data: Path, numbers: Collection[int]) -> Iterator[None]:
    """Within, these batches of a run on ``data`` have no number for a loss."""
    batches = make_trainer(data).feed
    bad = {batches[number].ids.numpy().tobytes() for number in numbers}

    def poison(module: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        takes_ids = bool(arguments) and arguments[0].dtype == torch.int64
        return output * math.nan if takes_ids and arguments[0].numpy().tobytes() in bad else None

    handle = nn.modules.module.register_module_forward_hook(poison)
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture
def request_of(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> Any:
    def make(name: str = "run", **settings: Any) -> Request:
        wanted = SETTINGS | {"steps": 8} | settings
        return Request(out=tmp_path / name, preset=str(tiny_preset), data=str(tiny_data), settings=wanted)

    return make


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def manual(data: Path, batches: list[int], first: Trainer | None = None) -> list[float]:
    """The losses of a trainer that reads these batches, one after the other."""
    trainer = first or make_trainer(data, steps=8)
    losses = []
    for number in batches:
        trainer.batch = number
        losses.append(step(trainer).loss)
    return losses


def like_a_run(data: Path, preset: Path, tmp_path: Path) -> Trainer:
    """A trainer with the weights that a run begins with."""
    still = {"learning_rate": 0.0, "min_learning_rate": 0.0}
    request = Request(out=tmp_path / "still", preset=str(preset), data=str(data), settings=SETTINGS | still)
    train(request, stop_after=1)
    (checkpoint,) = list_checkpoints(tmp_path / "still" / "checkpoints")
    return make_trainer(data, load_model(checkpoint, device="cpu", dtype=torch.float32), steps=8)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_bad_batch_is_skipped_and_the_others_are_learned_from(
    precision: str, request_of: Any, tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    with bad_batches(tiny_data, {2, 5}):
        events = train(request_of(precision=precision))
    assert isinstance(events[-1], Finished)
    skipped = [event for event in events if isinstance(event, Skipped)]
    assert [(event.step, event.batch) for event in skipped] == [(2, 2), (4, 5)]
    stepped = [event.loss for event in events if isinstance(event, Stepped)]
    trainer = like_a_run(tiny_data, tiny_preset, tmp_path)
    if precision == "fp32":
        assert stepped == manual(tiny_data, [0, 1, 3, 4, 6, 7, 8, 9], trainer)
    assert [line["batch"] for line in lines_of(request_of().folder) if line["event"] == "skipped"] == [2, 5]


def test_incident_tells_where_the_batch_came_from_and_how_the_run_stood(request_of: Any, tiny_data: Path) -> None:
    with bad_batches(tiny_data, {4}):
        (skipped,) = (event for event in train(request_of()) if isinstance(event, Skipped))
    incident = json.loads(skipped.incident.read_text())
    assert skipped.incident.parent == request_of().folder / "incidents"
    assert (incident["step"], incident["batch"], incident["state"]["step"]) == (5, 4, 4)
    assert (incident["loss"], incident["gradient_norm"], incident["reason"]) == ("nan", "nan", "a loss of nan")
    assert incident["not_finite"]["weights"] == []
    assert "model.embed_tokens.weight" in incident["not_finite"]["gradients"]
    assert len(incident["recent_losses"]) == 4
    tokens = np.fromfile(tiny_data / "train-00000.bin", dtype="<u2")
    batch = make_trainer(tiny_data).feed[4]
    for (first, last), ids, targets in zip(incident["documents"], batch.ids, batch.targets, strict=True):
        window = [*ids.tolist(), int(targets[-1])]
        (start,) = (place for place in range(len(tokens) - 16) if tokens[place : place + 17].tolist() == window)
        assert first == int((tokens[:start] == 256).sum())
        assert last == int((tokens[: start + 16] == 256).sum())


def test_three_in_a_row_take_the_run_back_past_the_data_since_its_last_validation(
    request_of: Any, tiny_data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    """Steps 1 to 5 read batches 0 to 4; then 5, 6, 7 are bad; back to step 3 and on with batch 8."""
    with bad_batches(tiny_data, {5, 6, 7}):
        events = train(request_of())
    told = [event for event in events if isinstance(event, Skipped | RolledBack)]
    assert [type(event) for event in told] == [Skipped, Skipped, Skipped, RolledBack]
    assert (told[-1].step, told[-1].from_step, told[-1].skipped) == (3, 5, (3, 4, 5, 6, 7))
    stepped = [(event.step, event.loss) for event in events if isinstance(event, Stepped)]
    trainer = like_a_run(tiny_data, tiny_preset, tmp_path)
    losses = manual(tiny_data, [0, 1, 2, 8, 9, 10, 11, 12], trainer)
    assert stepped[:3] + stepped[5:] == list(zip(range(1, 9), losses, strict=True))


def test_going_back_cuts_the_metrics_and_says_what_was_skipped(request_of: Any, tiny_data: Path) -> None:
    with bad_batches(tiny_data, {5, 6, 7}):
        train(request_of())
    lines = lines_of(request_of().folder)
    assert [line["step"] for line in lines if line["event"] == "stepped"] == [1, 2, 3, 4, 5, 6, 7, 8]
    place = next(index for index, line in enumerate(lines) if line["event"] == "rolled_back")
    assert lines[place]["skipped"] == [3, 4, 5, 6, 7]
    before = [(line["event"], line["step"]) for line in lines[:place]]
    assert before[-3:] == [("stepped", 3), ("validated", 3), ("saved", 3)]
    assert (lines[place + 1]["event"], lines[place + 1]["step"]) == ("saved", 3)


@pytest.mark.parametrize(
    "bad",
    [{5, 6, 7}, *(pytest.param(bad, marks=pytest.mark.slow) for bad in ({2}, {3, 4, 5, 8, 9, 10}, {4, 6, 7, 8}))],
    ids=str,
)  # fmt: skip
def test_run_stopped_after_every_event_ends_as_the_run_never_stopped(
    bad: set[int], request_of: Any, tiny_data: Path
) -> None:
    with bad_batches(tiny_data, bad):
        train(request_of("straight"))
        last: Any = None
        sessions = 0
        while not isinstance(last, Finished):
            seen = 0

            def stop_at_second(event: Any) -> bool:
                nonlocal seen
                seen += 1
                return seen == 2

            last = train(request_of(), stop_when=stop_at_second)[-1]
            sessions += 1
            assert sessions < 60
    assert differences(outcome(request_of().folder), outcome(request_of("straight").folder)) == []


@pytest.mark.parametrize("save_every", [1, 3, 100])
def test_when_checkpoints_are_saved_changes_nothing_about_going_back(
    save_every: int, request_of: Any, tiny_data: Path
) -> None:
    with bad_batches(tiny_data, {5, 6, 7}):
        train(request_of("straight"))
        train(request_of(save_every=save_every))
    assert differences(outcome(request_of().folder), outcome(request_of("straight").folder)) == []


def test_run_that_goes_wrong_again_and_again_ends_with_an_error_and_good_checkpoints(
    request_of: Any, tiny_data: Path
) -> None:
    with bad_batches(tiny_data, range(4, 100)), pytest.raises(TrainingError, match="went back 3 times") as raised:
        train(request_of())
    assert "--learning-rate" in raised.value.hint
    checkpoints = list_checkpoints(request_of().folder / "checkpoints")
    assert checkpoints
    for folder in checkpoints:
        Checkpoint.open(folder).verify()
    assert len([line for line in lines_of(request_of().folder) if line["event"] == "rolled_back"]) == 3


def test_run_that_is_wrong_from_the_start_ends_with_an_error(request_of: Any, tiny_data: Path) -> None:
    with bad_batches(tiny_data, range(9)), pytest.raises(TrainingError, match="no validated checkpoint to go back to"):
        train(request_of())


@pytest.mark.parametrize("settings", [{"save_every": 1}, {"save_every": 100}])
def test_before_the_first_validation_there_is_nothing_to_go_back_to_whatever_was_saved(
    settings: dict[str, Any], request_of: Any, tiny_data: Path
) -> None:
    request = request_of(validate_every=10, steps=12, **settings)
    train(request, stop_after=3)
    with bad_batches(tiny_data, {5, 6, 7}), pytest.raises(TrainingError, match="no validated checkpoint"):
        train(request)


def test_damaged_anchor_is_passed_over_for_an_older_checkpoint(request_of: Any, tiny_data: Path) -> None:
    request = request_of(steps=12, keep=9)

    def damage(event: Any) -> bool:
        if isinstance(event, Skipped) and event.batch == 9:
            (request.folder / "checkpoints" / "step-00000006" / "config.json").write_text("{}")
        return False

    train(request, stop_after=7)
    with bad_batches(tiny_data, {7, 8, 9}):
        events = train(request, stop_when=damage)
    (back,) = (event for event in events if isinstance(event, RolledBack))
    assert back.step == 4


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_wrong(number: float) -> None:
    assert str(number) in wrong_with(number, 1.0, [])
    assert str(number) in wrong_with(1.0, number, [])
    assert wrong_with(1e6, 1e6, []) == "", "nothing is known to compare it with"


@pytest.mark.parametrize(
    ("recent", "limit"),
    [
        ([2.0] * 128, 3.0),  # no deviation: one nat
        ([2.0, 4.0] * 64, 11.0),  # a deviation of 1: eight of them
        ([2.0, 2.2] * 64, 3.1),  # a deviation of 0.1: one nat is more
    ],
)
def test_spike_is_eight_deviations_and_a_nat_above_the_mean(recent: list[float], limit: float) -> None:
    assert wrong_with(limit - 1e-6, 1.0, recent) == ""
    assert "spike" in wrong_with(limit + 1e-6, 1.0, recent)
    assert wrong_with(limit + 1e-6, 1.0, recent[1:]) == "", "too few to judge by"


@pytest.mark.parametrize(("step_", "anchor"), [(0, 0), (2, 0), (3, 3), (5, 3), (6, 6)])
def test_anchor_is_the_last_step_that_was_validated(step_: int, anchor: int) -> None:
    assert last_anchor(step_, validate_every=3) == anchor


def test_limits_are_those_of_the_documentation() -> None:
    text = (Path(guard.__file__).parents[3] / "docs" / "run-folder.md").read_text()
    for promise in (
        f"{guard.SPIKE_DEVIATIONS:g} standard deviations, and more than {guard.SPIKE_NATS:g} nat",
        f"the last {guard.SPIKE_WINDOW} losses",
        f"After {guard.SKIPS_IN_A_ROW} such batches in a row",
        f"After {guard.MOST_ROLLBACKS}\nways back, or {guard.MOST_SKIPS} skipped batches",
    ):
        assert promise in text


def test_text_like_no_other_is_a_spike_and_named(tiny_preset: Path, tmp_path: Path) -> None:
    """Document 200 of 400 is noise; each batch that holds some of it is skipped in the second epoch, and no other."""
    chance = random.Random(0)
    texts = ["the cat sat on the mat"] * 400
    texts[200] = "".join(chance.choices(string.ascii_uppercase + string.digits, k=60))
    source = tmp_path / "cats.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prepare(str(source), tmp_path / "cats", PrepareConfig(tokenizer="bytes", validation_fraction=0.0))
    settings = SETTINGS | {"steps": 300, "validate_every": 1000, "save_every": 1000, "warmup_steps": 10}
    events = train(
        Request(out=tmp_path / "run", preset=str(tiny_preset), data=str(tmp_path / "cats"), settings=settings)
    )
    assert isinstance(events[-1], Finished)
    skipped = [event for event in events if isinstance(event, Skipped)]
    assert skipped, "the noise was met"
    for event in skipped:
        incident = json.loads(event.incident.read_text())
        assert "a spike above" in incident["reason"]
        assert any(first <= 200 <= last for first, last in incident["documents"])
