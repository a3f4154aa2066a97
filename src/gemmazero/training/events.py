"""What a run tells the world: facts, in order, named by past participles.

The loop yields them, the terminal draws them, ``metrics.jsonl`` keeps them, tests list them.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run begins at step 0."""

    step: int
    run: Path
    run_id: str
    steps: int
    parameters: int
    tokens_per_step: int
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run goes on after ``step``, from a checkpoint."""

    step: int
    run: Path
    run_id: str
    steps: int
    parameters: int
    tokens_per_step: int
    device: str
    precision: str
    changed: tuple[str, ...]  # equivalent settings given anew: "threads: 2 → 4"


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One optimizer step is done. ``loss`` is the batch's mean, in nats a token; ``tokens`` counts the whole run's."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    tokens_per_second: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Validated:
    """The held-out loss after ``step``, in nats a token; ``whole`` says whether it covers the whole split."""

    step: int
    loss: float
    tokens: int
    best: bool
    whole: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint is on disk, complete and verified."""

    step: int
    checkpoint: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The run was asked to stop; everything up to ``step`` is saved. ``validation_loss`` is the best one's."""

    step: int
    loss: float | None
    validation_loss: float | None
    best_step: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All steps are done. ``validation_loss`` covers the whole split; None where there is none."""

    step: int
    loss: float
    validation_loss: float | None
    best_step: int | None


Event = Started | Resumed | Stepped | Validated | Saved | Stopped | Finished
