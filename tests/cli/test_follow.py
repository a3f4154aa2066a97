import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_figures import STARTED, STEPPED, validated

from gemmazero.cli.follow import follow
from gemmazero.data.prepare import Opened
from gemmazero.training.events import Event, Finished, Stopped


class Script:
    """A run that tells what it was given to tell, and stops when it is asked to."""

    def __init__(self, *events: Event, interrupts: int = 0) -> None:
        self.folder = Path("runs/a b")
        self.events = events
        self.interrupts = interrupts
        self.reason = ""

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            yield event
            for _ in range(self.interrupts):
                os.kill(os.getpid(), signal.SIGINT)
            if self.reason:
                yield Stopped(step=event.step, loss=1.0, validation_loss=None, best_step=None, reason=self.reason)
                return

    def stop(self, reason: str) -> None:
        self.reason = reason


WHOLE = (STARTED, STEPPED, validated(20, 3.1, True), Finished(step=100, loss=2.5, validation_loss=2.75, best_step=90))


def test_finished_run_is_summed_up_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    follow(Script(*WHOLE), as_json=False)  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"{Path('runs/a b')} is finished, at step 100"
    for part in ("2.5000", "2.7500", "step 90", "loss_plot.png"):
        assert part in captured.out
    assert "gemmazero generate \"Once upon a time\" --model 'runs/a b'" in captured.err


def test_run_that_had_finished_before_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    follow(Script(WHOLE[-1]), as_json=False)  # type: ignore[arg-type]
    assert "was finished already, at step 100" in capsys.readouterr().out


def test_json_is_one_object_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    follow(Script(*WHOLE), as_json=True)  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == {
        "run": str(Path("runs/a b")),
        "step": 100,
        "loss": 2.5,
        "validation_loss": 2.75,
        "best_step": 90,
        "finished": True,
    }


def test_ctrl_c_asks_the_run_to_stop_and_prints_the_command_that_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as raised:
        follow(Script(STARTED, STEPPED, replace(STEPPED, step=21), interrupts=1), as_json=True)  # type: ignore[arg-type]
    assert raised.value.code == 130
    captured = capfd.readouterr()
    assert "stopped by Ctrl-C after step" in captured.err
    assert "  gemmazero resume 'runs/a b'\n" in captured.err
    assert json.loads(captured.out)["finished"] is False
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_interrupts_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as raised:
        follow(Script(STARTED, STEPPED, replace(STEPPED, step=21), interrupts=2), as_json=False)  # type: ignore[arg-type]
    assert raised.value.code == 130
    captured = capfd.readouterr()
    assert "gemmazero resume 'runs/a b'" in captured.err
    assert captured.out == ""
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_run_begins_interrupts_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        follow(Script(Opened("sample", None), *WHOLE, interrupts=1), as_json=False)  # type: ignore[arg-type]
    assert "stopping" not in capfd.readouterr().err


def test_ctrl_c_after_the_last_step_does_not_promise_to_stop(capfd: pytest.CaptureFixture[str]) -> None:
    class Validating(Script):
        """Interrupted after the last step, when it does not ask any more."""

        def __iter__(self) -> Iterator[Event]:
            yield STARTED
            yield replace(STEPPED, step=STARTED.steps)
            os.kill(os.getpid(), signal.SIGINT)
            yield WHOLE[-1]

    follow(Validating(), as_json=False)  # type: ignore[arg-type]
    captured = capfd.readouterr()
    assert "every step is done, the last validation is not; Ctrl-C again stops at once" in captured.err
    assert "stopping after this step" not in captured.err
    assert "is finished, at step 100" in captured.out
