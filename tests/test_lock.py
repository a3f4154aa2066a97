import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from file_operations import Before, intercepted
from gemmazero.errors import GemmaZeroError
from gemmazero.lock import clear_stale, locked

HOLDING = """
import sys
from pathlib import Path
from gemmazero.lock import locked
with locked(Path(sys.argv[1]), Path("run")):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(file: Path) -> Iterator["subprocess.Popen[str]"]:
    """Within, another process holds ``file``, until its stdin is closed."""
    command = [sys.executable, "-c", HOLDING, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def refusing(operation: str, code: int = errno.EIO) -> Before:
    """For ``intercepted``: a disk that refuses every such operation."""

    def refuse(now: str, path: Path) -> None:
        if now == operation:
            raise OSError(code, os.strerror(code), str(path))

    return refuse


def refusal(file: Path) -> GemmaZeroError:
    with pytest.raises(GemmaZeroError) as raised, locked(file, Path("runs/x")):
        raise AssertionError("it must not get so far")
    return raised.value


def test_second_process_is_refused_with_the_id_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "run" / ".lock"
    with held_elsewhere(file) as process:
        error = refusal(file)
        assert error.message == f'"runs/x" is in use by process {process.pid}'
        assert error.hint == f"wait for it to end, or stop it: kill {process.pid}"
        process.communicate()
        assert not file.exists(), "nothing is left of a process that ended"
    with locked(file, Path("runs/x")):
        assert file.read_text() == f"{os.getpid()}\n"
    assert list(file.parent.iterdir()) == []


def test_killed_process_lets_go_and_its_file_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with held_elsewhere(file) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert file.read_text() == f"{process.pid}\n", "it had no time to clean up"
    with locked(file, Path("runs/x")):
        assert refusal(file).message == f'"runs/x" is in use by process {os.getpid()}'
    assert not file.exists()


def test_another_thread_of_the_same_process_is_refused_too(tmp_path: Path) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            with locked(tmp_path / ".lock", Path("runs/x")):
                refused.append("no")
        except GemmaZeroError as error:
            refused.append(error.message)

    with locked(tmp_path / ".lock", Path("runs/x")):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert refused == [f'"runs/x" is in use by process {os.getpid()}']


def test_error_inside_lets_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="of the body"), locked(tmp_path / ".lock", Path("runs/x")):
            raise OSError("of the body")
    assert list(tmp_path.iterdir()) == []


def test_refusal_lets_nothing_go(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", Path("runs/x")):
        before = len(list(Path("/dev/fd").iterdir()))
        for _ in range(3):
            refusal(tmp_path / ".lock")
        assert len(list(Path("/dev/fd").iterdir())) == before, "no descriptor stays open"
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", [b"", b"12", b"\xff\n", b"-3\n", b"12\n34\n", b"9" * 100 + b"\n"])
def test_holder_that_is_not_named_in_full_is_another_process(content: bytes, tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", Path("runs/x")):
        (tmp_path / ".lock").write_bytes(content)
        error = refusal(tmp_path / ".lock")
    assert (error.message, error.hint) == (
        '"runs/x" is in use by another process', "wait for it to end, or stop it",
    )  # fmt: skip


def test_file_is_removed_before_it_is_let_go_of(tmp_path: Path) -> None:
    """Or the next holder's could be removed in its place."""
    seen: list[str] = []

    def try_it(operation: str, path: Path) -> None:
        if operation == "unlink":
            seen.append(refusal(path).message)

    with intercepted(try_it, tmp_path), locked(tmp_path / ".lock", Path("runs/x")):
        pass
    assert seen == [f'"runs/x" is in use by process {os.getpid()}']


@pytest.mark.parametrize("replaced", [True, False])
def test_file_that_its_holder_removed_meanwhile_is_no_lock(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened before the last holder removed it, and locked after: the lock of a file that nobody else will find."""
    file, real = tmp_path / ".lock", fcntl.flock
    times = 0

    def flock(descriptor: int, operation: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            file.unlink()
            if replaced:
                file.write_text("of the next\n")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(file, Path("runs/x")):
        assert times == 2, "it was opened anew"
        assert file.read_text() == f"{os.getpid()}\n"
        assert refusal(file).message.endswith(str(os.getpid()))


def test_link_in_its_place_is_refused_and_what_it_names_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to("precious")
    assert refusal(tmp_path / ".lock").message.startswith('cannot write "runs/x"')
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("operation", ["open", "mkdir"])
def test_disk_that_refuses_the_file_is_a_message(operation: str, tmp_path: Path) -> None:
    with intercepted(refusing(operation, errno.EROFS), tmp_path):
        error = refusal(tmp_path / "run" / ".lock")
    assert error.message == 'cannot write "runs/x": Read-only file system'
    assert error.hint


@pytest.mark.parametrize("operation", ["write", "torn write", "truncate"])
def test_lock_holds_where_the_disk_is_too_full_for_the_id(operation: str, tmp_path: Path) -> None:
    with intercepted(refusing(operation, errno.ENOSPC), tmp_path), locked(tmp_path / ".lock", Path("runs/x")):
        assert refusal(tmp_path / ".lock").message == '"runs/x" is in use by another process'
    assert list(tmp_path.iterdir()) == []


def test_lock_that_cannot_be_removed_is_free_again(tmp_path: Path) -> None:
    with intercepted(refusing("unlink"), tmp_path), locked(tmp_path / ".lock", Path("runs/x")):
        pass
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", Path("runs/x")):
        pass
    assert not (tmp_path / ".lock").exists()


def test_lock_that_a_killed_process_left_is_cleared_away_and_one_that_is_held_is_not(tmp_path: Path) -> None:
    clear_stale(tmp_path / ".lock")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".lock").write_text("1234\n")
    with intercepted(refusing("unlink"), tmp_path):
        clear_stale(tmp_path / ".lock")
    assert (tmp_path / ".lock").exists(), "and nothing is raised"
    clear_stale(tmp_path / ".lock")
    assert not (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", Path("runs/x")):
        clear_stale(tmp_path / ".lock")
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_many_processes_in_turn_never_hold_it_together(tmp_path: Path) -> None:
    """Each writes its id into a file of its own making; two at once would meet each other's."""
    turn = """
import os, sys, time
from pathlib import Path
from gemmazero.errors import GemmaZeroError
from gemmazero.lock import locked
folder, turns = Path(sys.argv[1]), 0
while turns < 200:
    try:
        with locked(folder / ".lock", folder):
            descriptor = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
            os.close(descriptor)
            (folder / "inside").unlink()
            turns += 1
    except GemmaZeroError:
        time.sleep(0)
"""
    processes: list[Any] = [subprocess.Popen([sys.executable, "-c", turn, tmp_path]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []
