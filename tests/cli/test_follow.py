import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from test_figures import STARTED, STEPPED, validated

from gemmazero.cli import signals
from gemmazero.cli.follow import follow
from gemmazero.data.prepare import Opened, PrepareEvent
from gemmazero.training.events import Event, Finished, Resumed, Stopped


class Script:
    """A run that tells what it was given to tell, gets a signal after each event, and stops when it is asked to."""

    def __init__(self, *events: PrepareEvent | Event, interrupted_by: signal.Signals | None = None) -> None:
        self.folder = Path("runs/a b")
        self.events = events
        self.interrupted_by = interrupted_by
        self.reason = ""

    def __iter__(self) -> Iterator[PrepareEvent | Event]:
        for event in self.events:
            yield event
            if self.interrupted_by is not None:
                os.kill(os.getpid(), self.interrupted_by)
            if self.reason:
                yield stopped(event.step, self.reason)
                return

    def stop(self, reason: str) -> None:
        self.reason = reason


WHOLE = (STARTED, STEPPED, validated(20, 3.1, True), Finished(step=100, loss=2.5, validation_loss=2.75, best_step=90))
RESUME = "gemmazero resume 'runs/a b'"
SIGNALS = {signal.SIGINT: ("Ctrl-C", 130), signal.SIGTERM: ("SIGTERM", 75), signal.SIGUSR1: ("SIGUSR1", 75)}


def stopped(step: int, reason: str) -> Stopped:
    return Stopped(step=step, loss=1.0, validation_loss=None, best_step=None, reason=reason)


def followed(script: Script, *, as_json: bool = False) -> int:
    """Follow a run to its end; returns the exit code."""
    try:
        with signals.TwoSignals() as two_signals:
            follow(script, two_signals, as_json=as_json)  # type: ignore[arg-type]
    except SystemExit as ended:
        return cast(int, ended.code)
    return 0


def test_finished_run_is_summed_up_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(Script(*WHOLE)) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"{Path('runs/a b')} is finished, at step 100"
    for part in ("2.5000", "2.7500", "step 90", "loss_plot.png"):
        assert part in captured.out
    assert "gemmazero generate \"Once upon a time\" --model 'runs/a b'" in captured.err


def test_run_that_had_finished_before_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(Script(WHOLE[-1])) == 0
    assert "was finished already, at step 100" in capsys.readouterr().out


def test_json_is_one_object_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert followed(Script(*WHOLE), as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": str(Path("runs/a b")),
        "step": 100,
        "loss": 2.5,
        "validation_loss": 2.75,
        "best_step": 90,
        "finished": True,
    }


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_asks_the_run_to_stop_and_the_command_that_goes_on_is_printed(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    name, code = SIGNALS[number]
    resumed = Resumed(**{**STARTED.__dict__, "step": 20}, changed=())
    assert followed(Script(resumed, replace(STEPPED, step=21), interrupted_by=number), as_json=True) == code
    captured = capfd.readouterr()
    assert f"{name}: saving, then stopping; a second signal stops at once\n" in captured.err
    assert captured.err.endswith(f"stopped by {name} after step 20, all of it saved; to go on:\n  {RESUME}\n")
    assert json.loads(captured.out)["finished"] is False
    assert signal.getsignal(number) is before


def test_run_that_the_clock_stopped_leaves_with_the_code_of_a_signal_of_the_system(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert followed(Script(STARTED, STEPPED, stopped(20, "--max-time 2h"))) == 75
    assert capsys.readouterr().err.endswith(
        f"stopped by --max-time 2h after step 20, all of it saved; to go on:\n  {RESUME}\n"
    )


@pytest.mark.parametrize(
    "events",
    [
        pytest.param((Opened("sample", None), stopped(0, "--max-time 9s")), id="while data is prepared"),
        pytest.param((Opened("sample", None), stopped(20, "--max-time 9s")), id="while data is prepared again"),
    ],
)
def test_run_that_was_stopped_before_a_step_is_begun_by_the_same_command_again(
    events: tuple[PrepareEvent | Event, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["…/gemmazero", "train", "--out", "runs/a b"])
    assert followed(Script(*events)) == 75
    assert capsys.readouterr().err.endswith(
        "stopped by --max-time 9s before any step was done; to do it again:\n  gemmazero train --out 'runs/a b'\n"
    )


def test_time_limit_in_which_nothing_was_done_is_told_to_be_too_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["…/gemmazero", "train", "--max-time", "9s"])
    resumed = Resumed(**{**STARTED.__dict__, "step": 20}, changed=())
    short = "it was too short for a step, give more"
    for start, step, where in (
        (STARTED, 0, f"before any step was done: {short}; to do it again:\n  gemmazero train --max-time 9s\n"),
        (resumed, 20, f"after step 20, all of it saved: {short}; to go on:\n  {RESUME}\n"),
    ):
        assert followed(Script(start, stopped(step, "--max-time 9s"))) == 75
        assert capsys.readouterr().err.endswith(f"stopped by --max-time 9s {where}")
    for did_something in (replace(STEPPED, step=21), validated(20, 3.1, True)):
        assert followed(Script(resumed, did_something, stopped(did_something.step, "--max-time 9s"))) == 75
        assert short not in capsys.readouterr().err
    assert followed(Script(resumed, stopped(20, "SIGTERM"))) == 75
    assert short not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, signals.Terminated)]
)
def test_signal_before_the_run_begins_ends_the_command_at_once(
    number: signal.Signals, raised: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(raised):
        followed(Script(Opened("sample", None), *WHOLE, interrupted_by=number))
    assert "saving" not in capfd.readouterr().err


def test_run_that_ends_although_it_was_asked_to_stop_is_finished(capfd: pytest.CaptureFixture[str]) -> None:
    class Ending(Script):
        """Interrupted when all is done, and it does not ask any more."""

        def __iter__(self) -> Iterator[PrepareEvent | Event]:
            yield STARTED
            os.kill(os.getpid(), signal.SIGTERM)
            yield WHOLE[-1]

    assert followed(Ending()) == 0
    assert "is finished, at step 100" in capfd.readouterr().out
