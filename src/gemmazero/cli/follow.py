"""A run from the first event to the last: drawn, stopped by Ctrl-C, summed up."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gemmazero.cli import console
from gemmazero.cli.progress import LiveProgress, PlainProgress, watch
from gemmazero.training.events import Finished, Resumed, Started, Stopped

if TYPE_CHECKING:
    from gemmazero.api import Training


def follow(training: "Training", *, as_json: bool) -> None:
    """Draw a run's events to the end and print its result.

    Ctrl-C asks the run to stop after the current step, which saves it; the exit code is then 130. Before the run
    begins there is nothing to save, and Ctrl-C interrupts at once.
    """
    from gemmazero.cli.preparation import PreparationProgress
    from gemmazero.data.prepare import PrepareEvent

    last: Finished | Stopped | None = None
    with PreparationProgress() as preparation, watch() as progress, contextlib.ExitStack() as stack:
        for event in training:
            if isinstance(event, PrepareEvent):
                preparation.show(event)
                continue
            if isinstance(event, Started | Resumed):
                stack.enter_context(_stopped_by_ctrl_c(training, progress))
            progress.show(event)
            if isinstance(event, Finished | Stopped):
                last = event
    assert last is not None, "a run ends with Finished or Stopped"
    if as_json:
        console.result_json(_record(training.folder, last))
    if isinstance(last, Stopped):
        console.say(f"stopped by {last.reason} after step {last.step:,}, all of it saved; to go on:")
        console.say(f"  {_resume_command(training.folder)}")
        sys.exit(console.INTERRUPTED)
    if not as_json:
        console.result(_summary(training.folder, last, was_finished=progress.figures.steps == 0))
    console.say(f'next: gemmazero generate "Once upon a time" --model {shlex.quote(str(training.folder))}')


@contextlib.contextmanager
def _stopped_by_ctrl_c(training: "Training", progress: PlainProgress | LiveProgress) -> Iterator[None]:
    """The first Ctrl-C asks the run to stop; the second ends it at once, with the command that goes on."""

    def ask(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        training.stop("Ctrl-C")
        is_last = progress.figures.step == progress.figures.steps
        then = b"every step is done, the last validation is not" if is_last else b"stopping after this step"
        # sys.stderr may be in the middle of a write, and must not be entered twice
        os.write(2, b"\n%b; Ctrl-C again stops at once\n" % then)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    except KeyboardInterrupt:
        console.say(f"stopped at once; to go on from the last checkpoint:\n  {_resume_command(training.folder)}")
        sys.exit(console.INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


def _resume_command(folder: Path) -> str:
    return f"gemmazero resume {shlex.quote(str(folder))}"


def _record(folder: Path, last: Finished | Stopped) -> dict[str, Any]:
    return {
        "run": str(folder),
        "step": last.step,
        "loss": last.loss,
        "validation_loss": last.validation_loss,
        "best_step": last.best_step,
        "finished": isinstance(last, Finished),
    }


def _summary(folder: Path, last: Finished, *, was_finished: bool) -> str:
    first = f"{folder} {'was finished already' if was_finished else 'is finished'}, at step {last.step:,}"
    lines = [first, f"  loss             {last.loss:.4f} nats a token"]
    if last.validation_loss is not None:
        lines.append(f"  validation loss  {last.validation_loss:.4f} nats a token, over the whole split")
    if last.best_step is not None:
        lines.append(f"  best checkpoint  step {last.best_step:,}")
    return "\n".join([*lines, f"  loss plot        {folder / 'loss_plot.png'}"])
