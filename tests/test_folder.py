import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemmazero.errors import GemmaZeroError
from gemmazero.folder import claimed, discard, recover, recover_all, whole_folder, write_file


class Crash(BaseException):
    """The process dies here: not even an ``except Exception`` sees it."""


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def make(folder: Path, content: str) -> None:
    with whole_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text(content)


def content_of(folder: Path) -> str:
    return (folder / "inner" / "file").read_text()


def test_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "new" / "folder"
    with whole_folder(final) as temporary:
        (temporary / "file").write_text("x")
        assert not final.exists()
        assert temporary.parent == final.parent, "a rename must not cross file systems"
    assert names(final) == ["file"]
    assert names(final.parent) == ["folder"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), GemmaZeroError("no"), Crash()])
@pytest.mark.parametrize("there", [True, False])
def test_failure_inside_leaves_what_was_there_and_no_temporaries(
    error: BaseException, there: bool, tmp_path: Path
) -> None:
    if there:
        make(tmp_path / "folder", "old")

    def fail() -> None:
        with whole_folder(tmp_path / "folder") as temporary:
            (temporary / "half").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["folder"] * there
    if there:
        assert content_of(tmp_path / "folder") == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_a_message_and_a_hint(code: int, tmp_path: Path) -> None:
    with pytest.raises(GemmaZeroError, match="the disk is full") as raised, whole_folder(tmp_path / "folder"):
        raise OSError(code, os.strerror(code))
    assert raised.value.hint
    assert names(tmp_path) == []


def test_place_that_cannot_be_written_to_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (lambda: make(tmp_path / "file" / "folder", ""), lambda: write_file(tmp_path / "file" / "x", "")):
        with pytest.raises(GemmaZeroError, match="cannot write"):
            write()


def failing_at(monkeypatch: pytest.MonkeyPatch, function: str, call: int, error: BaseException) -> None:
    """The ``call``-th use of ``os.<function>`` from now on, 0 for the first, raises ``error`` and does nothing."""
    real: Callable[..., Any] = getattr(os, function)
    calls = iter(range(call + 1))

    def replacement(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) == call:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, replacement)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()])
def test_failure_between_the_renames_brings_the_old_folder_back(
    call: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "folder", "old")
    with monkeypatch.context() as patch:
        failing_at(patch, "rename", call, error)
        with pytest.raises((GemmaZeroError, KeyboardInterrupt)):
            make(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"]
    assert content_of(tmp_path / "folder") == "old"


@pytest.mark.parametrize("sync", range(5))
def test_disk_that_fails_to_sync_changes_nothing(sync: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "folder", "old")
    with monkeypatch.context() as patch:
        failing_at(patch, "fsync", sync, OSError(errno.EIO, "input/output error"))
        if sync < 4:
            with pytest.raises(GemmaZeroError, match="cannot write"):
                make(tmp_path / "folder", "new")
        else:
            make(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"]
    assert content_of(tmp_path / "folder") == ("old" if sync < 3 else "new"), "the last sync follows the renames"


def dies_at(parent: Path, step: int) -> None:
    """What a process leaves that is killed at each step of replacing ``folder``: only the renames are its doing."""
    temporary, replaced, final = parent / ".folder.writing", parent / ".folder.replaced", parent / "folder"
    temporary.mkdir()
    (temporary / "half").write_text("x")
    if step == 0:
        return
    (temporary / "half").unlink()
    (temporary / "inner").mkdir()
    (temporary / "inner" / "file").write_text("new")
    if step >= 2:
        final.rename(replaced)
    if step >= 3:
        temporary.rename(final)
    if step >= 4:
        (replaced / "inner" / "file").unlink()


@pytest.mark.parametrize(("step", "content"), [(0, "old"), (1, "old"), (2, "old"), (3, "new"), (4, "new")])
def test_killed_replacement_is_recovered_to_the_old_folder_or_the_new(step: int, content: str, tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    dies_at(tmp_path, step)
    recover_all(tmp_path)
    assert names(tmp_path) == ["folder"]
    assert content_of(tmp_path / "folder") == content


def test_recovering_touches_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    make(tmp_path / "other", "x")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".stray.writing").mkdir()
    recover(tmp_path / "folder")
    assert names(tmp_path) == [".hidden", ".stray.writing", "folder", "other"]
    recover_all(tmp_path)
    assert names(tmp_path) == [".hidden", "folder", "other"]
    recover_all(tmp_path / "absent")


def test_stray_temporaries_of_a_killed_process_do_not_stop_the_next(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    dies_at(tmp_path, 2)
    make(tmp_path / "folder", "newest")
    assert names(tmp_path) == ["folder"]
    assert content_of(tmp_path / "folder") == "newest"


def test_discarded_folder_is_never_there_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "folder", "old")
    with monkeypatch.context() as patch:
        failing_at(patch, "unlink", 0, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            discard(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    recover_all(tmp_path)
    assert names(tmp_path) == []


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_file(file, "old")
    with monkeypatch.context() as patch:
        failing_at(patch, "fsync", 0, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(GemmaZeroError, match="the disk is full"):
            write_file(file, "new")
    assert file.read_text() == "old"
    write_file(file, "näw")
    assert file.read_bytes() == "näw".encode()
    write_file(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["file"]


def test_second_writer_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as first:
        (first / "file").write_text("first")
        with (
            pytest.raises(GemmaZeroError, match=r'folder" is in use by another process'),
            whole_folder(tmp_path / "folder"),
        ):
            raise AssertionError("it must not get so far")
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_folder_is_free_again_once_it_is_let_go_of(tmp_path: Path) -> None:
    for _ in range(2):
        with claimed(tmp_path / "folder"), pytest.raises(GemmaZeroError), claimed(tmp_path / "folder"):
            pass


def test_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    make(tmp_path / "there", "old")
    (tmp_path / "link").symlink_to("there")
    make(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "there") == "new"
    assert names(tmp_path) == ["link", "there"]


def test_next_writer_is_not_disturbed_by_the_end_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, following = os.fsync, tmp_path / ".folder.writing"

    def sync(descriptor: int) -> None:
        real(descriptor)
        if (tmp_path / "folder").exists() and not following.exists():  # the first has taken its name; the next begins
            following.mkdir()

    with whole_folder(tmp_path / "folder") as first:
        (first / "file").write_text("first")
        monkeypatch.setattr(os, "fsync", sync)
    assert following.is_dir()
