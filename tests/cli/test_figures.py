from dataclasses import replace
from pathlib import Path

import pytest

from gemmazero.cli.figures import Figures
from gemmazero.training.events import Event, Resumed, RolledBack, Saved, Skipped, Started, Stepped, Stopped, Validated

STARTED = Started(
    step=0,
    run=Path("r"),
    run_id="x",
    steps=100,
    parameters=1_300_000,
    tokens_per_step=500,
    device="cpu",
    precision="fp32",
)
STEPPED = Stepped(
    batch=0, step=20, loss=3.25, learning_rate=1e-3, gradient_norm=0.5, tokens=10_000, seconds=1.0,
    tokens_per_second=400.0, memory_bytes=2_000_000_000,
)  # fmt: skip


def folded(*events: Event) -> Figures:
    figures = Figures()
    for event in events:
        figures = figures.after(event)
    return figures


def validated(step: int, loss: float, best: bool) -> Validated:
    return Validated(step=step, loss=loss, tokens=9, best=best, whole=False, seconds=0.1)


def test_time_left_is_the_steps_left_at_the_speed_of_the_last_steps() -> None:
    assert folded(STARTED).seconds_left == 0
    assert folded(STARTED, STEPPED).seconds_left == (100 - 20) * STEPPED.seconds
    steady = [replace(STEPPED, step=step, seconds=3.0) for step in range(21, 71)]
    assert folded(STARTED, STEPPED, *steady).seconds_left == pytest.approx((100 - 70) * 3.0, rel=0.01)


def test_best_validation_is_kept_when_a_worse_one_follows() -> None:
    figures = folded(STARTED, STEPPED, validated(20, 3.1, True), replace(STEPPED, step=40), validated(40, 3.2, False))
    assert figures.of_learning() == [
        "loss 3.250",
        "validation 3.200 (best 3.100 at step 20)",
        "learning rate 1.00e-03",
        "gradient norm 0.50",
    ]


def test_machine_figures_name_their_units() -> None:
    saved = Saved(step=20, checkpoint=Path("r/checkpoints/step-00000020"), seconds=0.1)
    assert folded(STARTED, STEPPED, saved).of_machine() == [
        "400 tokens/s",
        "1m 20s left",
        "memory 2.0 GB",
        "saved at step 20",
    ]


def test_resumed_run_counts_from_its_checkpoint() -> None:
    resumed = Resumed(**{**STARTED.__dict__, "step": 60}, changed=())
    assert folded(resumed).step == 60
    assert folded(resumed, Stopped(step=61, loss=1.0, validation_loss=None, best_step=None, reason="Ctrl-C")).step == 61


SKIPPED = Skipped(step=40, batch=41, loss=9.0, gradient_norm=1.0, reason="a loss of 9", incident=Path("r/incidents/x"))


def test_skipped_batches_are_counted_and_are_no_steps() -> None:
    figures = folded(STARTED, STEPPED, SKIPPED, SKIPPED)
    assert figures.step == STEPPED.step
    assert figures.of_learning()[-1] == "skipped batches 2"


def test_run_that_went_back_forgets_what_came_later() -> None:
    saved = [Saved(step=step, checkpoint=Path("r"), seconds=0.1) for step in (20, 40)]
    told = (STARTED, STEPPED, validated(20, 3.2, True), saved[0], replace(STEPPED, step=40))
    later = (validated(40, 3.1, True), saved[1])
    back_to = {step: RolledBack(step=step, from_step=45, skipped=(40, 41)) for step in (20, 40)}
    assert folded(*told, *later, back_to[40]).best == later[0]
    figures = folded(*told, *later, back_to[20])
    assert (figures.step, figures.best, figures.validated, figures.saved) == (20, None, None, None)
    assert figures.of_machine() == ["400 tokens/s", "1m 20s left", "memory 2.0 GB"]
    earlier = folded(*told, replace(STEPPED, step=45), back_to[20])
    assert (earlier.best, earlier.saved) == (told[2], saved[0])


def test_mfu_is_told_where_it_is_known_and_with_the_speed_of_the_last_steps() -> None:
    assert not [part for part in folded(STARTED, STEPPED).of_machine() if "MFU" in part]
    assert "MFU 42%" in folded(STARTED, replace(STEPPED, mfu=0.42)).of_machine()
    assert folded(STARTED).of_speed() == ""
    assert folded(STARTED, STEPPED).of_speed() == "400 tokens/s"
    steady = [replace(STEPPED, step=step, seconds=2.0, tokens_per_second=200.0, mfu=0.2) for step in range(21, 90)]
    assert folded(STARTED, *steady, replace(STEPPED, mfu=0.4)).of_speed() == "211 tokens/s, MFU 21%"
