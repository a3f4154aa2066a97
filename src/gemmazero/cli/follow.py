"""A run from the first event to the last: drawn, stopped by a signal, summed up."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmazero.cli import console, signals
from gemmazero.cli.figures import Figures
from gemmazero.cli.progress import watch
from gemmazero.cli.signals import TwoSignals
from gemmazero.errors import HubError
from gemmazero.training.events import Finished, PushFailed, Resumed, Started, Stopped

if TYPE_CHECKING:
    from gemmazero.api import Training


def follow(training: "Training", two_signals: TwoSignals, *, as_json: bool) -> None:
    """Draw a run's events to the end and print its result; a run that was stopped leaves with the exit code for it.

    Once the run has begun, the first signal asks it to stop, which saves it. Before that there is nothing to save, and
    the signal ends the command.
    """
    from gemmazero.cli.preparation import PreparationProgress
    from gemmazero.data.events import PrepareEvent

    last: Finished | Stopped | None = None
    unpushed: PushFailed | None = None
    with PreparationProgress() as preparation, watch() as progress:

        def ask(name: str) -> None:
            training.stop(name)
            progress.note(f"{name}: saving, then stopping; a second signal stops at once")

        for event in training:
            if isinstance(event, PrepareEvent):
                preparation.show(event)
                continue
            if isinstance(event, Started | Resumed):
                two_signals.ask(ask, _resume_command(training.folder))
            progress.show(event)
            if isinstance(event, PushFailed) and event.retry_seconds is None:
                unpushed = event
            if isinstance(event, Finished | Stopped):
                last = event
    assert last is not None, "a run ends with Finished or Stopped"
    if as_json:
        console.result_json(_record(training.folder, last))
    if isinstance(last, Stopped):
        console.say(_stopped(last, training.folder, progress.figures))
        if unpushed is not None:
            console.problem(*_not_on_the_hub(unpushed, training.folder))
        sys.exit(signals.exit_code(last.reason))
    if not as_json:
        console.result(_summary(training.folder, last, progress.figures))
    if unpushed is not None:
        raise HubError(*_not_on_the_hub(unpushed, training.folder))
    console.say(f'next: gemmazero generate "Once upon a time" --model {shlex.quote(str(training.folder))}')


def _not_on_the_hub(event: PushFailed, folder: Path) -> tuple[str, str]:
    there = "nothing of it is" if event.pushed_step is None else f"its step {event.pushed_step:,} is"
    message = f"step {event.step:,} is on this disk and not on the Hub, {there}: {event.reason}"
    why = f" ({event.hint})" if event.hint else ""
    return message, f"to push it later: {_resume_command(folder)} --hub-repo {event.repo}{why}"


def _stopped(last: Stopped, folder: Path, figures: Figures) -> str:
    """What stopped the run, where it stands, and the command that goes on, which may not come further by itself."""
    has_run = figures.steps > 0
    is_idle = has_run and not (figures.stepped or figures.validated or figures.skipped)
    short = ": it was too short for a step, give more" if is_idle and last.reason.startswith("--max-time") else ""
    if has_run and last.step > 0:
        where, command = f"after step {last.step:,}, all of it saved", f"to go on:\n  {_resume_command(folder)}"
    else:
        where, command = "before any step was done", f"to do it again:\n  {signals.this_command()}"
    return f"stopped by {last.reason} {where}{short}; {command}"


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


def _summary(folder: Path, last: Finished, figures: Figures) -> str:
    first = f"{folder} {'was finished already' if figures.steps == 0 else 'is finished'}, at step {last.step:,}"
    lines = [first, f"  loss             {last.loss:.4f} nats a token"]
    if last.validation_loss is not None:
        lines.append(f"  validation loss  {last.validation_loss:.4f} nats a token, over the whole split")
    if last.best_step is not None:
        lines.append(f"  best checkpoint  step {last.best_step:,}")
    if speed := figures.of_speed():
        lines.append(f"  speed            {speed}")
    return "\n".join([*lines, f"  loss plot        {folder / 'loss_plot.png'}"])
