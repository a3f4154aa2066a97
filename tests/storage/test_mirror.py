import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from gemmazero.errors import CheckpointError, HubError
from gemmazero.storage.mirror import FOLDER, LAST_TRIES, HubMirror, Tried
from gemmazero.storage.push import Pusher
from gemmazero.storage.snapshot import Snapshot
from tiny_run import finished_run

BUSY = HubError("busy", "wait", kind="unreachable")


class Gate:
    """Pushes when it is let, and keeps the steps; raises what it is given first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.steps = list(errors), []  # type: ignore[var-annotated]
        self.begun, self.may_go = threading.Semaphore(0), threading.Semaphore(0)

    def push(self, snapshot: Snapshot) -> None:
        self.begun.release()
        assert self.may_go.acquire(timeout=60)
        assert all(path.is_file() for path in snapshot.heavy.values() if isinstance(path, Path))
        if self.errors:
            raise self.errors.pop(0)
        self.steps.append(snapshot.step)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint at every step; read only."""
    return finished_run(tmp_path_factory.mktemp("mirror") / "run", tiny_data, tiny_preset, save_every=1, keep=9)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@contextmanager
def mirroring(run: Path, gate: Gate, pushed_step: int | None = None) -> Iterator[HubMirror]:
    mirror = HubMirror(cast(Pusher, gate), run, pushed_step)
    try:
        yield mirror
    finally:
        mirror.close()
        for _ in range(9):
            gate.may_go.release()


def checkpoint(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def wait_for_copies(run: Path, *offers: int) -> None:
    """Until what is set aside in the run folder, whole or not, is of these offers."""
    end = time.monotonic() + 60
    while {int(path.name) for path in (run / FOLDER).glob("*")} != set(offers):
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for_what_is_told(mirror: HubMirror) -> list[Tried]:
    end = time.monotonic() + 60
    while not (told := mirror.told()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return told


def test_a_newer_state_takes_the_place_of_one_that_waits(run: Path) -> None:
    gate = Gate()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 1))
        assert gate.begun.acquire(timeout=60)
        for step in (2, 3, 4):
            mirror.offer(checkpoint(run, step))
        wait_for_copies(run, 1, 4)
        for _ in range(2):
            gate.may_go.release()
        told = list(mirror.drain(60))
    assert gate.steps == [1, 4] == [one.step for one in told]
    assert not (run / FOLDER).exists()


def test_what_is_pushed_outlives_the_checkpoint_it_is_of(run: Path) -> None:
    gate = Gate()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 1))
        assert gate.begun.acquire(timeout=60)
        shutil.rmtree(run / "checkpoints")
        gate.may_go.release()
        assert [one.reason for one in mirror.drain(60)] == [""]


def test_what_is_replaced_is_removed_in_the_background(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removing, may_remove, remove = threading.Semaphore(0), threading.Semaphore(0), shutil.rmtree

    def remove_when_it_may(folder: Path, **how: bool) -> None:
        removing.release()
        assert may_remove.acquire(timeout=60)
        remove(folder, **how)

    gate = Gate()
    with mirroring(run, gate) as mirror:
        monkeypatch.setattr(shutil, "rmtree", remove_when_it_may)
        mirror.offer(checkpoint(run, 1))
        assert gate.begun.acquire(timeout=60)  # else the next might take its place
        mirror.offer(checkpoint(run, 2))
        wait_for_copies(run, 1, 2)
        for step in (3, 4):
            mirror.offer(checkpoint(run, step))  # comes back, though nothing may be removed yet
        assert removing.acquire(timeout=60)
        for _ in range(9):
            may_remove.release()
            gate.may_go.release()
        assert [one.step for one in mirror.drain(60)] == [1, 4]
    assert not (run / FOLDER).exists()


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A disk without hard links, on which each file is copied when it is let."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links")

    gate, copy = Gate(), shutil.copyfile

    def copy_when_it_may(source: Path, target: Path) -> None:
        gate.begun.release()
        assert gate.may_go.acquire(timeout=60)
        copy(source, target)

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfile", copy_when_it_may)
    return gate


def test_without_hard_links_a_state_is_copied_in_the_background_before_it_is_pushed(run: Path, copying: Gate) -> None:
    gate = Gate()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))  # comes back, though nothing may be copied yet
        for _ in range(99):
            copying.may_go.release()
        assert gate.begun.acquire(timeout=60)
        shutil.rmtree(run / "checkpoints")
        gate.may_go.release()
        assert [one.reason for one in mirror.drain(60)] == [""]
    assert gate.steps == [2]
    assert not (run / FOLDER).exists()


def test_a_state_that_is_gone_before_it_was_copied_is_told_and_the_next_is_pushed(run: Path, copying: Gate) -> None:
    gate = Gate()
    gate.may_go.release()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        assert copying.begun.acquire(timeout=60)
        shutil.rmtree(checkpoint(run, 2))
        mirror.offer(checkpoint(run, 3))
        for _ in range(99):
            copying.may_go.release()
        told = [one.reason for one in mirror.drain(60)]
    assert told == ["the state could not be set aside to be pushed: No such file or directory", ""]
    assert gate.steps == [3]


def test_a_failure_is_told_tried_again_and_mended(run: Path) -> None:
    gate = Gate(BUSY)
    with mirroring(run, gate, pushed_step=1) as mirror:
        mirror.offer(checkpoint(run, 2))
        for _ in range(2):
            gate.may_go.release()
        first, second = mirror.drain(60)
    assert (first.step, first.reason, first.pushed_step) == (2, "busy", 1)
    assert first.retry_seconds is not None
    assert (second.step, second.reason, second.pushed_step) == (2, "", 2)


def test_what_the_hub_refuses_for_good_is_not_tried_for_long(run: Path) -> None:
    gate = Gate(*[HubError("no", kind="refused")] * LAST_TRIES)
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        for _ in range(2):
            gate.may_go.release()
        *_, last = mirror.drain(60)
    assert last == Tried(step=2, reason="no", behind_seconds=last.behind_seconds)


def test_a_hub_that_says_nothing_is_not_waited_for_beyond_the_deadline(run: Path) -> None:
    gate = Gate()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        assert gate.begun.acquire(timeout=60)
        (last,) = mirror.drain(0.1)
    assert (last.reason, last.retry_seconds) == ("the Hub has not answered yet", None)


def test_a_bug_in_pushing_ends_neither_the_run_nor_the_mirror(run: Path) -> None:
    gate = Gate(ZeroDivisionError("hf_secret"))
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        for _ in range(2):
            gate.may_go.release()
        first, second = mirror.drain(60)
    assert first.reason == "pushing failed: ZeroDivisionError"
    assert second.reason == ""


def test_a_damaged_state_is_told_and_let_go_of_and_the_next_is_pushed(run: Path) -> None:
    gate = Gate(CheckpointError("it is damaged", "verify"))
    with mirroring(run, gate, pushed_step=1) as mirror:
        mirror.offer(checkpoint(run, 2))
        assert gate.begun.acquire(timeout=60)
        for _ in range(3):
            gate.may_go.release()
        wait_for_copies(run)
        mirror.offer(checkpoint(run, 3))
        first, second = mirror.drain(60)
    assert (first.step, first.reason, first.hint, first.pushed_step) == (2, "it is damaged", "verify", 1)
    assert (second.step, second.reason) == (3, "")
    assert gate.steps == [3]


def test_a_damaged_state_that_none_follows_is_tried_once_and_told_at_the_end(run: Path) -> None:
    gate = Gate(CheckpointError("it is damaged", "verify"))
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        for _ in range(9):
            gate.may_go.release()
        first, last = mirror.drain(60)
    assert [(one.step, one.reason, one.retry_seconds) for one in (first, last)] == [
        (2, "it is damaged", 0.0),
        (2, "it is damaged", None),
    ]
    assert gate.steps == []
    assert not (run / FOLDER).exists()


def test_a_last_state_that_could_not_be_set_aside_is_told_at_the_end_though_another_was_pushed(
    run: Path,
) -> None:
    gate = Gate()
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        assert gate.begun.acquire(timeout=60)
        mirror.offer(checkpoint(run, 9))  # which is gone
        wait_for_what_is_told(mirror)
        gate.may_go.release()
        pushed, last = mirror.drain(60)
    assert (pushed.step, pushed.reason) == (2, "")
    assert (last.step, last.pushed_step, last.retry_seconds) == (9, 2, None)
    assert "step-00000009" in last.reason


def test_what_was_given_up_is_not_waited_for_again(run: Path) -> None:
    gate = Gate(*[HubError("no", kind="refused")] * 9)
    with mirroring(run, gate) as mirror:
        mirror.offer(checkpoint(run, 2))
        for _ in range(9):
            gate.may_go.release()
        *_, last = mirror.drain(60)
        assert last.reason == "no"
        assert list(mirror.drain(3)) == []


def test_copies_that_a_killed_process_left_are_gone(run: Path) -> None:
    (run / FOLDER / "0").mkdir(parents=True)
    with mirroring(run, Gate()) as mirror:
        assert list(mirror.drain(60)) == []
    assert not (run / FOLDER).exists()
