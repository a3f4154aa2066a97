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
    extension: str = ""  # "60 → 80 steps"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """The checkpoint of ``step`` is damaged, or not this run's; the next older one is looked at."""

    step: int
    checkpoint: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One optimizer step is done. ``loss`` is the batch's mean, in nats a token; ``tokens`` counts the whole run's.

    ``mfu`` is the model's FLOPs utilization: the share of what the machine can multiply that the step's mathematics
    needs, where both are known.
    """

    step: int
    batch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    tokens_per_second: float
    memory_bytes: int
    mfu: float | None = None


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
class Unsaved:
    """Something could not be written after ``step``; training goes on, and writing is tried again."""

    step: int
    what: str  # "the checkpoint of step 12", "metrics.jsonl"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The state of ``step`` was brought from the Hub, complete and verified."""

    step: int
    repo: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Delayed:
    """The Hub is asked again in ``seconds`` before the run begins, or goes on; ``reason`` says why."""

    step: int
    reason: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """The state of ``step``, and the best model so far, are on the Hub."""

    step: int
    repo: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PushFailed:
    """The state of ``step`` is not on the Hub, the last that is there is ``pushed_step``; training goes on.

    It is tried again in ``retry_seconds``; None says that this was the last time, at the end of the run.
    """

    step: int
    repo: str
    reason: str
    hint: str
    pushed_step: int | None
    behind_seconds: float
    retry_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A batch with numbers gone wrong was not learned from; ``step`` steps are done, as before."""

    step: int
    batch: int
    loss: float
    gradient_norm: float
    reason: str
    incident: Path  # the file that tells all about it


@dataclass(frozen=True, kw_only=True)
class RolledBack:
    """The run went back from ``from_step`` to ``step``; the batches numbered in ``skipped`` are not read again."""

    step: int
    from_step: int
    skipped: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Uncompiled:
    """Nothing can be compiled here, for this reason; the run, which only begins, does without to its end."""

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The documents of the batch after ``step`` are not there; ``reason`` says why. Training goes on when they are."""

    step: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The run was asked to stop; everything up to ``step`` is saved. ``validation_loss`` is the best one's."""

    step: int
    loss: float | None = None
    validation_loss: float | None = None
    best_step: int | None = None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All steps are done. ``validation_loss`` covers the whole split; None where there is none."""

    step: int
    loss: float
    validation_loss: float | None
    best_step: int | None


Event = (
    Started | Resumed | Rejected | Uncompiled | Stepped | Skipped | RolledBack | Waiting | Validated | Saved | Unsaved
    | Delayed | Fetched | Pushed | PushFailed | Stopped | Finished
)  # fmt: skip
