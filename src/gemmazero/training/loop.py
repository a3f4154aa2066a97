"""The training loop: a generator of events, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Protocol

from gemmazero.training.events import Event, Finished, Saved, Stepped, Stopped, Validated


class Trains(Protocol):
    """What the loop needs of a trainer."""

    step: int
    validated_step: int

    def optimizer_step(self) -> Stepped:
        """Move the weights once."""


def train(
    trainer: Trains,
    *,
    steps: int,
    validate_every: int,
    save_every: int,
    validate: Callable[[], Validated | None],
    save: Callable[[], Saved],
    finish: Callable[[], Finished],
    stop: Callable[[], str],
    stopped: Callable[[str], Stopped],
) -> Iterator[Event]:
    """Step, validate, save, until ``steps`` are done or ``stop()`` gives a reason.

    A validation that is due comes before the save of the same step, so a resumed run, which starts at the top with
    the state of some step, owes exactly what the uninterrupted run owed there. A new best is saved at once.
    """
    is_saved = True
    while True:
        due = trainer.step > 0 and (trainer.step % validate_every == 0 or trainer.step == steps)
        if due and trainer.validated_step != trainer.step:
            validated = validate()
            trainer.validated_step = trainer.step
            is_saved = False
            if validated is not None:
                yield validated
                if validated.best:
                    yield save()
                    is_saved = True
        reason = stop()  # asked once: a signal may come at any time
        owed = reason or trainer.step == steps or trainer.step % save_every == 0
        if owed and not is_saved:
            yield save()
            is_saved = True
        if trainer.step == steps:
            yield finish()
            return
        if reason:
            yield stopped(reason)
            return
        yield trainer.optimizer_step()
        is_saved = False
