"""The training loop: a generator of events, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Protocol

from gemmazero.training.events import (
    Event,
    Finished,
    RolledBack,
    Saved,
    Skipped,
    Stepped,
    Stopped,
    Uncompiled,
    Unsaved,
    Validated,
    Waiting,
)


class Trains(Protocol):
    """What the loop needs to know of a trainer."""

    step: int
    validated_step: int


def train(
    trainer: Trains,
    *,
    steps: int,
    validate_every: int,
    optimizer_step: Callable[[], Stepped | Skipped | RolledBack | Waiting | Uncompiled],
    validate: Callable[[], Validated | None] | None,
    is_save_due: Callable[[], bool],
    save: Callable[[], Saved | Unsaved],
    finish: Callable[[], Finished | None],
    stop: Callable[[], str],
    stopped: Callable[[str], Stopped],
) -> Iterator[Event]:
    """Step, validate, save, until ``steps`` are done or ``stop()`` gives a reason.

    A validation that is due comes before the save of the same step, so a resumed run, which starts at the top with
    the state of some step, owes exactly what the uninterrupted run owed there. Every validation is saved at once.
    What a wish to stop leaves undone, ``validate`` and ``finish`` answer with None; it is owed again.
    """
    saved_step, is_saved = trainer.step, True
    while True:
        is_due = trainer.step > 0 and (trainer.step % validate_every == 0 or trainer.step == steps)
        validated = None
        if validate is not None and is_due and trainer.validated_step != trainer.step:
            validated = validate()
        if validated is not None:
            trainer.validated_step, is_saved = trainer.step, False
            yield validated
        reason = stop()  # asked once: a signal may come at any time
        is_new = trainer.step != saved_step and (is_due or is_save_due())
        if not is_saved and (validated or is_new or reason):
            saved = save()
            yield saved
            if isinstance(saved, Saved):
                saved_step, is_saved = trainer.step, True
        if trainer.step == steps:
            yield finish() or stopped(stop())
            return
        if reason:
            yield stopped(reason)
            return
        yield optimizer_step()
        is_saved = False
