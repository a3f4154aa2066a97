"""Held-out loss on the way: a fixed part of the validation split, and all of it at the end."""

import time
from collections.abc import Sequence
from contextlib import closing

from gemmazero.config import TrainConfig
from gemmazero.data.batches import choose_windows
from gemmazero.data.shards import TokenShards
from gemmazero.evaluation.perplexity import evaluating, window_count
from gemmazero.training.events import Validated
from gemmazero.training.stop import Stop
from gemmazero.training.trainer import Best, Trainer


class Validation:
    """Scores a trainer's model on the same windows at every validation, ``validation_tokens`` of them.

    Args:
        trainer: whose model, precision and step are meant.
        shards: the validation split.
        config: of the run.
        stop: asked between two batches; a validation that is stopped gives nothing, and is owed again.
    """

    def __init__(self, trainer: Trainer, shards: TokenShards, config: TrainConfig, stop: Stop) -> None:
        self.last: Validated | None = None
        self._trainer, self._shards, self._config, self._stop = trainer, shards, config, stop
        self._size = window_count(shards, config.sequence_length) if len(shards) > 1 else 0
        count = -(-config.validation_tokens // config.sequence_length) or self._size
        self._windows = choose_windows(self._size, min(count, self._size), config.seed) if self._size else []

    @property
    def is_possible(self) -> bool:
        """Whether the run has held-out text at all."""
        return bool(self._windows)

    def part(self) -> Validated | None:
        """The loss on the fixed part, which the trainer takes for its best if it is; None where it was stopped."""
        validated = self._score(self._windows, may_be_best=True)
        if validated is not None and validated.best:
            self._trainer.best = Best(step=validated.step, loss=validated.loss)
        return validated

    def whole(self) -> Validated | None:
        """The loss on the whole split, unless the last validation was just that; None where it was stopped."""
        if self.last is not None and self.last.whole and self.last.step == self._trainer.step:
            return self.last
        return self._score(range(self._size), may_be_best=False)

    def _score(self, windows: Sequence[int], *, may_be_best: bool) -> Validated | None:
        started = time.perf_counter()
        trainer, best = self._trainer, self._trainer.best
        evaluations = evaluating(
            trainer.model, self._shards, sequence_length=self._config.sequence_length, windows=windows,
            mask_documents=self._config.mask_documents, autocast=trainer.precision.autocast,
        )  # fmt: skip
        with closing(evaluations):
            for evaluation in evaluations:  # noqa: B007 - the last one is meant
                if self._stop.reason:
                    return None
        self.last = Validated(
            step=trainer.step,
            loss=evaluation.loss,
            tokens=evaluation.tokens,
            best=may_be_best and (best is None or evaluation.loss < best.loss or best.step == trainer.step),
            whole=len(windows) == self._size,
            seconds=time.perf_counter() - started,
        )
        return self.last
