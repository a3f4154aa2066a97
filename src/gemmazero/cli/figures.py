"""What is known of a run so far, folded from its events, and how it reads."""

from dataclasses import dataclass, replace
from typing import Self

from gemmazero.cli import units
from gemmazero.training.events import (
    Delayed,
    Event,
    Fetched,
    Finished,
    Pushed,
    PushFailed,
    Rejected,
    Resumed,
    RolledBack,
    Saved,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Uncompiled,
    Unsaved,
    Validated,
    Waiting,
)

SMOOTHING = 0.1  # the last step's share in the speed that the time left is told by


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The latest fact of each kind."""

    step: int = 0
    steps: int = 0
    seconds_per_step: float = 0.0
    stepped: Stepped | None = None
    validated: Validated | None = None
    best: Validated | None = None
    saved: Saved | None = None
    pushed: Pushed | None = None
    skipped: int = 0

    def after(self, event: Event) -> Self:
        """The figures once ``event`` has happened."""
        match event:
            case Started() | Resumed():
                return replace(self, step=event.step, steps=event.steps)
            case Stepped():
                before = self.seconds_per_step if self.stepped else event.seconds
                smoothed = before + SMOOTHING * (event.seconds - before)
                return replace(self, step=event.step, stepped=event, seconds_per_step=smoothed)
            case Validated():
                return replace(self, validated=event, best=event if event.best else self.best)
            case Saved():
                return replace(self, saved=event)
            case Skipped():
                return replace(self, skipped=self.skipped + 1)
            case RolledBack():
                return self._gone_back(event.step)
            case Stopped() | Finished():
                return replace(self, step=event.step)
            case Pushed():
                return replace(self, pushed=event)
            case Delayed() | Rejected() | Uncompiled() | Unsaved() | Waiting() | Fetched() | PushFailed():
                return self

    def _gone_back(self, step: int) -> Self:
        """Without the facts of later steps, which no longer are facts."""
        best = self.best if self.best and self.best.step <= step else None
        validated = self.validated if self.validated and self.validated.step <= step else None
        saved = self.saved if self.saved and self.saved.step <= step else None
        return replace(self, step=step, best=best, validated=validated, saved=saved)

    @property
    def seconds_left(self) -> float:
        """At the speed of the last steps, without validations."""
        return (self.steps - self.step) * self.seconds_per_step

    def of_speed(self) -> str:
        """Tokens a second, and MFU where it is known, at the speed of the last steps; empty before the first."""
        if self.stepped is None:
            return ""
        faster = self.stepped.seconds / self.seconds_per_step
        mfu = "" if self.stepped.mfu is None else f", MFU {self.stepped.mfu * faster:.0%}"
        return f"{self.stepped.tokens_per_second * faster:,.0f} tokens/s{mfu}"

    def of_learning(self) -> list[str]:
        """Loss, validation loss, learning rate, gradient norm, and how many batches were skipped."""
        parts = []
        if self.stepped is not None:
            parts.append(f"loss {self.stepped.loss:.3f}")
        if self.validated is not None:
            best = f" (best {self.best.loss:.3f} at step {self.best.step:,})" if self.best else ""
            parts.append(f"validation {self.validated.loss:.3f}{best}")
        if self.stepped is not None:
            parts.append(f"learning rate {self.stepped.learning_rate:.2e}")
            parts.append(f"gradient norm {self.stepped.gradient_norm:.2f}")
        if self.skipped:
            parts.append(f"skipped batches {self.skipped:,}")
        return parts

    def of_machine(self) -> list[str]:
        """Tokens a second, time left, MFU, memory, last checkpoint, here and on the Hub."""
        parts = []
        if self.stepped is not None:
            parts.append(f"{self.stepped.tokens_per_second:,.0f} tokens/s")
            parts.append(f"{units.duration(self.seconds_left)} left")
            if self.stepped.mfu is not None:
                parts.append(f"MFU {self.stepped.mfu:.0%}")
            parts.append(f"memory {units.size(self.stepped.memory_bytes)}")
        if self.saved is not None:
            parts.append(f"saved at step {self.saved.step:,}")
        if self.pushed is not None:
            parts.append(f"on the Hub: step {self.pushed.step:,}")
        return parts
