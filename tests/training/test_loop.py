from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from gemmazero.training.events import (
    Event,
    Finished,
    RolledBack,
    Saved,
    Skipped,
    Stepped,
    Stopped,
    Unsaved,
    Validated,
)
from gemmazero.training.loop import train


class Counter:
    """A trainer that only counts; it goes wrong when it is asked for the steps in ``bad``, once each."""

    def __init__(self, step: int = 0, validated_step: int = 0, bad: Collection[int] = ()) -> None:
        self.step = step
        self.validated_step = validated_step
        self.bad = set(bad)

    def optimizer_step(self) -> Stepped | Skipped | RolledBack:
        if self.step + 1 in self.bad:
            self.bad.remove(self.step + 1)
            return Skipped(step=self.step, batch=0, loss=1.0, gradient_norm=1.0, reason="a spike", incident=Path("x"))
        self.step += 1
        return Stepped(
            step=self.step, batch=0, loss=1.0, learning_rate=1.0, gradient_norm=1.0, tokens=1, seconds=1.0,
            tokens_per_second=1.0, memory_bytes=1,
        )  # fmt: skip


class StopAt:
    """Gives a reason from the ``call``-th question on."""

    def __init__(self, call: int) -> None:
        self.calls_left = call

    def __call__(self) -> str:
        self.calls_left -= 1
        return "a signal" if self.calls_left < 0 else ""


def events(
    counter: Counter,
    *,
    best: tuple[int, ...] = (),
    validates: bool = True,
    stop: Callable[[], str] = lambda: "",
    steps: int = 6,
    save_every: int = 2,
    full_disk_at: Collection[int] = (),
    abandons: Collection[int] = (),
) -> list[Event]:
    def validate() -> Validated | None:
        if counter.step in abandons:
            return None
        loss = 1.0 if counter.step in best else 2.0
        is_best = counter.step in best
        return Validated(step=counter.step, loss=loss, tokens=1, best=is_best, whole=False, seconds=1.0)

    def save() -> Saved | Unsaved:
        if counter.step in full_disk_at:
            return Unsaved(step=counter.step, what="a checkpoint", reason="the disk is full")
        return Saved(step=counter.step, checkpoint=Path("x"), seconds=1.0)

    return list(
        train(
            counter,
            steps=steps,
            validate_every=3,
            optimizer_step=counter.optimizer_step,
            validate=validate if validates else None,
            is_save_due=lambda: counter.step % save_every == 0,
            save=save,
            finish=lambda: Finished(step=counter.step, loss=1.0, validation_loss=None, best_step=None),
            stop=stop,
            stopped=lambda reason: Stopped(
                step=counter.step, loss=1.0, validation_loss=None, best_step=None, reason=reason
            ),
        )
    )


def told(all_events: list[Event]) -> str:
    return " ".join(f"{type(event).__name__.lower()}{event.step}" for event in all_events)


def test_validation_comes_before_the_save_of_its_step() -> None:
    assert told(events(Counter())) == (
        "stepped1 stepped2 saved2 stepped3 validated3 saved3 stepped4 saved4 stepped5 stepped6 validated6 saved6 "
        "finished6"
    )


def test_new_best_is_saved_at_once_and_no_step_twice() -> None:
    assert told(events(Counter(), best=(3, 6))) == (
        "stepped1 stepped2 saved2 stepped3 validated3 saved3 stepped4 saved4 stepped5 stepped6 validated6 saved6 "
        "finished6"
    )
    assert told(events(Counter(), best=(3,), save_every=3)) == (
        "stepped1 stepped2 stepped3 validated3 saved3 stepped4 stepped5 stepped6 validated6 saved6 finished6"
    )


def test_run_without_validation_text_saves_where_it_would_validate() -> None:
    assert told(events(Counter(), validates=False)) == (
        "stepped1 stepped2 saved2 stepped3 saved3 stepped4 saved4 stepped5 stepped6 saved6 finished6"
    )


def test_validation_that_a_wish_to_stop_cut_short_is_owed_again() -> None:
    counter = Counter()
    assert told(events(counter, abandons=(3,), stop=StopAt(3))).endswith("stepped3 saved3 stopped3")
    assert told(events(counter)).startswith("validated3 saved3 stepped4")


def test_save_that_failed_is_tried_again_and_training_goes_on() -> None:
    assert told(events(Counter(), full_disk_at=(2, 3))) == (
        "stepped1 stepped2 unsaved2 stepped3 validated3 unsaved3 stepped4 saved4 stepped5 stepped6 validated6 saved6 "
        "finished6"
    )


def test_skipped_batch_is_no_step_and_no_reason_to_save_again() -> None:
    assert told(events(Counter(bad=(3,)), stop=StopAt(4))) == (
        "stepped1 stepped2 saved2 skipped2 stepped3 validated3 saved3 stopped3"
    )
    assert told(events(Counter(bad=(3,)), stop=StopAt(3))) == "stepped1 stepped2 saved2 skipped2 saved2 stopped2"


def test_last_step_is_validated_and_saved_whenever_it_comes() -> None:
    assert told(events(Counter(), steps=1)) == "stepped1 validated1 saved1 finished1"


def test_step_zero_is_neither_validated_nor_saved() -> None:
    assert told(events(Counter(), stop=StopAt(0))) == "stopped0"


def test_stop_saves_first_and_gives_its_reason() -> None:
    stopped = events(Counter(), stop=StopAt(1))
    assert told(stopped) == "stepped1 saved1 stopped1"
    assert isinstance(stopped[-1], Stopped)
    assert (stopped[-1].step, stopped[-1].reason) == (1, "a signal")


def test_stop_after_the_last_step_finishes() -> None:
    assert told(events(Counter(), stop=StopAt(6))).endswith("stepped6 validated6 saved6 finished6")


@pytest.mark.parametrize("question", range(12))
@pytest.mark.parametrize("best", [(), (3,)])
def test_everything_is_saved_before_the_run_says_that_it_stopped(question: int, best: tuple[int, ...]) -> None:
    all_events = events(Counter(), best=best, stop=StopAt(question))
    if isinstance(all_events[-1], Stopped) and all_events[-1].step:
        assert isinstance(all_events[-2], Saved)
        assert all_events[-2].step == all_events[-1].step


@pytest.mark.parametrize(
    ("counter", "rest"),
    [
        (Counter(2), "stepped3 validated3 saved3 stepped4 saved4 stepped5 stepped6 validated6 saved6 finished6"),
        (Counter(3), "validated3 saved3 stepped4 saved4 stepped5 stepped6 validated6 saved6 finished6"),
        (Counter(3, 3), "stepped4 saved4 stepped5 stepped6 validated6 saved6 finished6"),
        (Counter(4, 3), "stepped5 stepped6 validated6 saved6 finished6"),
        (Counter(6, 3), "validated6 saved6 finished6"),
        (Counter(6, 6), "finished6"),
    ],
)
def test_resumed_run_owes_what_the_uninterrupted_one_owed(counter: Counter, rest: str) -> None:
    assert told(events(counter)) == rest
