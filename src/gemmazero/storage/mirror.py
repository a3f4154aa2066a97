"""HubMirror: the newest saved state of a run → the Hub, in the background, never in the way."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gemmazero.errors import CheckpointError, GemmaZeroError, HubError
from gemmazero.hub import seconds_to_wait
from gemmazero.storage.checkpoint import step_of
from gemmazero.storage.push import Pusher
from gemmazero.storage.snapshot import Best, Snapshot

FOLDER = ".hub"  # in the run folder: copies that wait to be pushed, or are
LAST_TRIES = 5  # when nothing else is left to do: some 15 seconds of waiting, and what the Hub asks for


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of pushing the state of ``step``.

    Args:
        step: of the state.
        seconds: that it took.
        reason: why it is not on the Hub; empty where it is.
        hint: what mends that.
        pushed_step: the last step that this process knows to be on the Hub.
        behind_seconds: since when a state has waited to be pushed.
        retry_seconds: to the next try; None where there is none.
    """

    step: int
    seconds: float = 0.0
    reason: str = ""
    hint: str = ""
    pushed_step: int | None = None
    behind_seconds: float = 0.0
    retry_seconds: float | None = None


class HubMirror:
    """Pushes the states of a run; sets them aside in one thread, and pushes in another.

    One is being pushed, and one waits at most: a newer one takes its place.

    Args:
        pusher: knows how.
        run: the run folder.
        pushed_step: the step known to be on the Hub.
    """

    def __init__(self, pusher: Pusher, run: Path, pushed_step: int | None) -> None:
        self._pusher, self._run = pusher, run
        self._folder = run / FOLDER
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._is_pushing = self._is_draining = self._is_closed = False
        self._failed_in_a_row = 0
        self._tries_left = LAST_TRIES
        self._next_try = self._asked_until = 0.0  # the latter by the Hub
        self._behind_since: float | None = None
        self._pushed_step = pushed_step
        self._newest = pushed_step or 0  # the step that is to be on the Hub
        self._failed: Tried | None = None  # last, since that was offered or before
        self._told: list[Tried] = []
        self._offered = self._taken = 0  # how many states
        self._hand = ThreadPoolExecutor(1)  # sets states aside, and removes what they replace
        shutil.rmtree(self._folder, ignore_errors=True)  # what a killed process left
        threading.Thread(target=self._work, name="hub", daemon=True).start()

    def offer(self, checkpoint: Path) -> None:
        """Have the saved ``checkpoint`` pushed, in place of one that waits; waits for nothing, not even the disk."""
        with self._changed:
            self._offered += 1
            self._newest = step_of(checkpoint) or 0
        self._hand.submit(self._set_aside, self._offered, checkpoint, Best.of(self._run))

    def told(self) -> list[Tried]:
        """What became of each try since this was asked last."""
        with self._changed:
            told, self._told = self._told, []
        return told

    def drain(self, seconds: float) -> Iterator[Tried]:
        """Wait for the Hub to have everything, and tell of each try; the last one says so where it does not.

        That is after ``seconds`` at most, or after a few tries in vain. Asked again, it has nothing to wait for.
        """
        end = time.monotonic() + seconds
        with self._changed:
            if self._is_closed:
                return
            self._is_draining, self._tries_left, self._next_try = True, LAST_TRIES, self._asked_until
            self._changed.notify_all()
        is_busy = True
        while is_busy:
            with self._changed:
                is_busy = self._is_behind and self._tries_left > 0 and time.monotonic() < end
                if is_busy and not self._told:
                    self._changed.wait(min(0.2, max(0.0, end - time.monotonic())))
            yield from self.told()
        with self._changed:
            given_up = self._given_up() if self._is_behind or self._failed is not None else None
        if given_up is not None:
            yield given_up
        self.close()

    def close(self) -> None:
        """Begin no other push, and take no other offer; what waits is let go of."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._hand.shutdown()
        with self._changed:
            is_pushing, waiting = self._is_pushing, self._waiting
        if waiting is not None:
            waiting.discard()
        if not is_pushing:
            with suppress(OSError):
                self._folder.rmdir()

    @property
    def _is_behind(self) -> bool:
        return self._waiting is not None or self._is_pushing or self._taken < self._offered

    def _given_up(self) -> Tried:
        failed = None if self._is_pushing else self._failed
        return Tried(
            step=self._newest,
            reason="the Hub has not answered yet" if failed is None else failed.reason,
            hint="" if failed is None else failed.hint,
            pushed_step=self._pushed_step,
            behind_seconds=self._seconds_behind(),
        )

    def _seconds_behind(self) -> float:
        return 0.0 if self._behind_since is None else time.monotonic() - self._behind_since

    def _tell(self, tried: Tried) -> None:
        with self._changed:
            if tried.reason or tried.step == self._newest:
                self._failed = tried if tried.reason else None
            self._told.append(tried)
            self._changed.notify_all()

    def _set_aside(self, number: int, checkpoint: Path, best: Best) -> None:
        snapshot = None
        if number == self._offered and not self._is_closed:  # else a newer one is about to come
            folder = self._folder / str(number)
            try:
                snapshot = Snapshot.take(folder, self._run, checkpoint, best)
            except Exception as error:  # nothing that goes wrong here may end, or silence, the run
                shutil.rmtree(folder, ignore_errors=True)
                reason = error.message if isinstance(error, GemmaZeroError) else type(error).__name__
                self._tell(Tried(step=step_of(checkpoint) or 0, reason=reason, retry_seconds=0.0))
        with self._changed:
            self._taken = number
            replaced = None
            if snapshot is not None:
                self._behind_since = self._behind_since or time.monotonic()
                replaced, self._waiting = self._waiting, snapshot
            self._changed.notify_all()
        if replaced is not None:
            replaced.discard()

    def _work(self) -> None:
        while (snapshot := self._next()) is not None:
            started = time.monotonic()
            try:
                self._pusher.push(snapshot)
            except CheckpointError as error:
                self._pass_over(snapshot, error, time.monotonic() - started)
            except GemmaZeroError as error:
                self._take_failure(snapshot, error, time.monotonic() - started)
            except Exception as error:  # nothing that goes wrong here may end, or silence, the run
                self._take_failure(snapshot, HubError(f"pushing failed: {type(error).__name__}"), 0.0)
            else:
                self._take_success(snapshot, time.monotonic() - started)

    def _next(self) -> Snapshot | None:
        """The state to push now; None when there will be no other."""
        with self._changed:
            while not self._is_closed:
                wait = self._next_try - time.monotonic()
                may_try = not self._is_draining or self._tries_left > 0
                if self._waiting is not None and wait <= 0 and may_try:
                    snapshot, self._waiting, self._is_pushing = self._waiting, None, True
                    return snapshot
                self._changed.wait(wait if self._waiting is not None and wait > 0 else None)
        return None

    def _take_success(self, snapshot: Snapshot, seconds: float) -> None:
        snapshot.discard()
        with self._changed:
            self._is_pushing, self._failed_in_a_row, self._pushed_step = False, 0, snapshot.step
            self._behind_since = None if self._waiting is None else time.monotonic()
            self._tell(Tried(step=snapshot.step, seconds=seconds, pushed_step=snapshot.step))

    def _pass_over(self, snapshot: Snapshot, error: CheckpointError, seconds: float) -> None:
        """Let go of a copy that is damaged: it stays so, and only another state can be pushed."""
        snapshot.discard()
        with self._changed:
            self._is_pushing = False
            self._tell_failure(snapshot, error, seconds, 0.0)

    def _take_failure(self, snapshot: Snapshot, error: GemmaZeroError, seconds: float) -> None:
        known = error if isinstance(error, HubError) else HubError(error.message, error.hint)
        with self._changed:
            self._is_pushing = False
            self._failed_in_a_row += 1
            wait = seconds_to_wait(known, self._failed_in_a_row)
            if self._is_draining:
                self._tries_left -= 1 if known.kind in ("unreachable", "damaged", "unknown") else LAST_TRIES
                wait = seconds_to_wait(known, LAST_TRIES - self._tries_left)
            self._next_try, self._asked_until = time.monotonic() + wait, time.monotonic() + known.retry_after
            replaced, self._waiting = (None, snapshot) if self._waiting is None else (snapshot, self._waiting)
            self._tell_failure(snapshot, error, seconds, wait)
        if replaced is not None:
            replaced.discard()

    def _tell_failure(self, snapshot: Snapshot, error: GemmaZeroError, seconds: float, wait: float) -> None:
        self._tell(
            Tried(
                step=snapshot.step,
                seconds=seconds,
                reason=error.message,
                hint=error.hint,
                pushed_step=self._pushed_step,
                behind_seconds=self._seconds_behind(),
                retry_seconds=wait,
            )
        )
