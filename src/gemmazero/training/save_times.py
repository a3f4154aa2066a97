"""When a checkpoint is due: by the step, by the clock, after a failure. None of it changes what a run computes."""

import math
import time

from gemmazero.config import TrainConfig
from gemmazero.training.optimizer import decay_start

SECONDS_TO_NEXT_TRY = 60.0  # after a checkpoint that could not be saved


class SaveTimes:
    """Of a run with the settings ``config``, whose learning rate's curve ends at ``curve_steps``."""

    def __init__(self, config: TrainConfig, curve_steps: int) -> None:
        self.hold = decay_start(curve_steps) if config.schedule == "wsd" else 0
        """The step that a longer run goes on from, where the schedule has such a one; else 0."""
        self._every = config.save_every
        self._seconds = config.save_minutes * 60 or math.inf
        self._saved_at, self._failed_at = time.monotonic(), math.inf

    def is_due(self, step: int) -> bool:
        """Whether to save now that ``step`` steps are done."""
        now = time.monotonic()
        by_clock = now - self._saved_at >= self._seconds or now - self._failed_at >= SECONDS_TO_NEXT_TRY
        return step % self._every == 0 or step == self.hold or by_clock

    def tried(self, *, saved: bool) -> None:
        """Take in that a checkpoint was written, or could not be."""
        now = time.monotonic()
        self._saved_at, self._failed_at = (now, math.inf) if saved else (self._saved_at, now)
