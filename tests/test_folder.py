import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from file_operations import intercepted
from gemmazero.errors import GemmaZeroError
from gemmazero.folder import (
    clear_leftovers,
    discard,
    lock_of,
    recover,
    recover_all,
    require_space,
    whole_folder,
    write_file,
)
from gemmazero.lock import locked


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


def is_killed(parent: Path, death: int) -> bool:
    """Whether a process that makes ``folder`` anew dies on the way, right before its change number ``death``."""
    done = 0

    def die(operation: str, path: Path) -> None:
        nonlocal done
        if done == death:
            os._exit(9)
        done += 1

    if (child := os.fork()) == 0:
        try:
            with intercepted(die, parent):
                make(parent / "folder", "new")
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_half_of_a_replaced_folder_never_comes_back_wherever_the_process_was_killed(tmp_path: Path) -> None:
    for death in range(99):
        parent = tmp_path / str(death)
        make(parent / "folder", "old")
        (parent / "folder" / "more").write_text("old")
        was_killed = is_killed(parent, death)
        shutil.rmtree(parent / "folder", ignore_errors=True)  # by its owner
        recover_all(parent)
        if names(parent):
            assert names(parent) == ["folder"]
            found = names(parent / "folder"), content_of(parent / "folder")
            assert found in ((["inner", "more"], "old"), (["inner"], "new"))
        if not was_killed:
            return
    raise AssertionError


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
            pytest.raises(GemmaZeroError, match=rf'folder" is in use by process {os.getpid()}'),
            whole_folder(tmp_path / "folder"),
        ):
            raise AssertionError("it must not get so far")
    assert (tmp_path / "folder" / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    make(tmp_path / "there", "old")
    (tmp_path / "link").symlink_to("there")
    make(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content_of(tmp_path / "there") == "new"
    assert names(tmp_path) == ["link", "there"]


def test_next_writer_has_to_wait_until_the_first_has_cleared_up(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    operations = []

    def try_it(operation: str, path: Path) -> None:
        operations.append(operation)
        if operations.count("rename") and path.name != ".folder.lock":
            with pytest.raises(GemmaZeroError, match="is in use"):
                make(tmp_path / "folder", "of the next")

    with intercepted(try_it, tmp_path):
        make(tmp_path / "folder", "new")
    assert operations[-1] == "unlink", "of the lock, last of all"
    assert names(tmp_path) == ["folder"]
    assert content_of(tmp_path / "folder") == "new"


def test_what_is_being_written_is_not_cleared_away(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as temporary:
        (temporary / "file").write_text("first")
        for clear in (lambda: recover(tmp_path / "folder"), lambda: recover_all(tmp_path)):
            with pytest.raises(GemmaZeroError, match="is in use"):
                clear()
        assert (temporary / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


def test_a_ring_of_links_is_not_written_to_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(GemmaZeroError, match="cannot write"):
        make(tmp_path / "ring", "new")
    clear_leftovers(tmp_path / "ring")
    assert names(tmp_path) == ["ring"]
    assert (tmp_path / "ring").readlink() == Path("ring")


def test_lock_is_that_of_what_a_link_names_and_is_there_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link"):
        with whole_folder(tmp_path / name):
            assert lock_of(tmp_path / "link") == lock_of(tmp_path / "folder") == tmp_path / ".folder.lock"
            assert lock_of(tmp_path / name).read_text() == f"{os.getpid()}\n"
        assert not lock_of(tmp_path / name).exists()


def test_locks_that_nobody_holds_are_cleared_away_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / ".folder.lock").write_text("1234\n")
    (tmp_path / ".lock").write_text("1234\n")
    recover_all(tmp_path)
    assert names(tmp_path) == [".lock"], "the lock of the parent is not one of a thing in it"
    with locked(tmp_path / ".folder.lock", tmp_path / "folder"):
        with pytest.raises(GemmaZeroError, match="is in use"):
            recover_all(tmp_path)
        assert (tmp_path / ".folder.lock").exists()


def test_half_written_files_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "old")
    (tmp_path / ".file.writing").write_text("ne")
    recover_all(tmp_path)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_link_where_a_temporary_is_to_be_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    folder, file = tmp_path / "new" / "folder", tmp_path / "new" / "file"
    folder.parent.mkdir()
    for clear in (make, lambda *_: discard(folder), lambda *_: recover(folder)):
        (folder.parent / ".folder.writing").symlink_to(tmp_path / "precious")
        clear(folder, "new")
    (folder.parent / ".file.writing").symlink_to(tmp_path / "precious" / "file")
    write_file(file, "new")
    assert (tmp_path / "precious" / "file").read_text() == "precious"
    assert not file.is_symlink()
    assert names(folder.parent) == ["file"]


def begin(folder: Path, content: str, error: BaseException) -> list[str]:
    """Fill a folder that is continued, with notes beside it, and fail; the names that were there before."""
    there = []

    def fail() -> None:
        with whole_folder(folder, is_continued=True) as temporary:
            there.extend(names(temporary))
            if content:
                (temporary / content).write_text(content)
            (temporary.parent / "notes").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    return there


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), GemmaZeroError("no"), Crash()])
def test_folder_that_is_continued_is_found_as_it_was_left_and_is_whole_in_the_end(
    error: BaseException, tmp_path: Path
) -> None:
    make(tmp_path / "folder", "old")
    assert begin(tmp_path / "folder", "one", error) == []
    assert begin(tmp_path / "folder", "two", error) == ["one"]
    assert content_of(tmp_path / "folder") == "old"
    recover_all(tmp_path)
    assert names(tmp_path) == [".folder.unfinished", "folder"]
    with whole_folder(tmp_path / "folder", is_continued=True) as temporary:
        assert names(temporary) == ["one", "two"]
        assert names(temporary.parent) == ["folder", "notes"]
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["one", "two"]


@pytest.mark.parametrize("is_continued", [False, True])
def test_folders_made_on_the_way_go_where_nothing_came_of_it(is_continued: bool, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    final = tmp_path / "there" / "new" / "newer" / "folder"
    with pytest.raises(ValueError, match="no"), whole_folder(final, is_continued=is_continued):
        raise ValueError("no")
    assert names(tmp_path / "there") == []


def test_folder_that_is_continued_and_empty_goes(tmp_path: Path) -> None:
    assert begin(tmp_path / "folder", "", ValueError("no")) == []
    assert names(tmp_path) == []


def test_notes_that_a_process_left_when_it_was_done_are_cleared_away(tmp_path: Path) -> None:
    make(tmp_path / "folder", "new")
    for folder in (tmp_path / "folder", tmp_path / "absent"):
        left = folder.with_name(f".{folder.name}.unfinished")
        left.mkdir()
        (left / "notes").write_text("x")
        clear_leftovers(folder)
        assert names(tmp_path) == ["folder"]


def test_clearing_leftovers_waits_for_nobody_and_touches_nothing_that_is_written(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder", is_continued=True) as temporary:
        (temporary / "file").write_text("x")
        clear_leftovers(tmp_path / "folder")
        assert names(temporary) == ["file"]
    before = (tmp_path / "folder").stat().st_mtime_ns, tmp_path.stat().st_mtime_ns
    clear_leftovers(tmp_path / "folder")
    assert before == ((tmp_path / "folder").stat().st_mtime_ns, tmp_path.stat().st_mtime_ns)


@pytest.mark.parametrize("inner", ["", "folder"])
def test_link_where_an_unfinished_folder_is_to_be_is_not_followed(inner: str, tmp_path: Path) -> None:
    (tmp_path / "precious" / "folder").mkdir(parents=True)
    (tmp_path / "precious" / "folder" / "file").write_text("precious")
    unfinished = tmp_path / "new" / ".folder.unfinished"
    if inner:
        unfinished.mkdir(parents=True)
        (unfinished / inner).symlink_to(tmp_path / "precious" / "folder")
    else:
        unfinished.parent.mkdir()
        unfinished.symlink_to(tmp_path / "precious")
    with whole_folder(tmp_path / "new" / "folder", is_continued=True) as temporary:
        assert names(temporary) == []
    assert names(tmp_path / "precious" / "folder") == ["file"]


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
FULL = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full")


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@contextmanager
def refusing(below: Path, code: int, first: int, *, for_good: bool) -> Iterator[list[str]]:
    """Within, the disk refuses operation number ``first``, from 0, and all that follow where that is ``for_good``."""
    operations: list[str] = []

    def refuse(operation: str, path: Path) -> None:
        operations.append(operation)
        if len(operations) > first and (for_good or len(operations) == first + 1):
            raise OSError(code, os.strerror(code), str(path))

    with intercepted(refuse, below, changes_only=False):
        yield operations


def refusal_of(deed: Callable[[], None]) -> GemmaZeroError | None:
    try:
        deed()
    except GemmaZeroError as error:
        return error
    return None


def each_refusal(tmp_path: Path, deed: Callable[[Path], None], *, for_good: bool) -> Iterator[tuple[Path, bool]]:
    """``deed`` on a folder of its own for each of its operations, and whether it failed, as a GemmaZeroError."""
    operation, reached = 0, True
    while reached:
        for code in REFUSALS:
            folder = tmp_path / f"{operation}-{code}"
            folder.mkdir()
            make(folder / "folder", "old")
            write_file(folder / "file", "old")
            with refusing(folder, code, operation, for_good=for_good) as operations:
                told = refusal_of(partial(deed, folder))
            if told is not None:
                assert told.hint, "it says what to do"
                assert FULL.get(code, os.strerror(code)) in told.message or os.strerror(code) in told.message
            yield folder, told is not None
            reached = len(operations) > operation
        operation += 1
    assert operation > 5, "or nothing was refused"


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_disk_that_refuses_anything_leaves_the_old_folder_or_the_new(for_good: bool, tmp_path: Path) -> None:
    outcomes = set()
    for folder, failed in each_refusal(tmp_path, lambda folder: make(folder / "folder", "new"), for_good=for_good):
        if not for_good:
            assert (folder / "folder").is_dir(), "under its own name"
        recover_all(folder)
        assert names(folder) == ["file", "folder"]
        assert names(folder / "folder") == ["inner"]
        outcomes.add((failed, content_of(folder / "folder")))
    assert {(True, "old"), (False, "new")} <= outcomes
    assert (False, "old") not in outcomes


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_disk_that_refuses_anything_leaves_the_old_file_or_the_new(for_good: bool, tmp_path: Path) -> None:
    outcomes = set()
    for folder, failed in each_refusal(tmp_path, lambda folder: write_file(folder / "file", "new"), for_good=for_good):
        outcomes.add((failed, (folder / "file").read_text()))
        recover_all(folder)
        assert names(folder) == ["file", "folder"]
    assert outcomes == {(True, "old"), (True, "new"), (False, "new")}, "new: the last sync failed"


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_disk_that_refuses_anything_leaves_the_whole_folder_or_none(for_good: bool, tmp_path: Path) -> None:
    for folder, failed in each_refusal(tmp_path, lambda folder: discard(folder / "folder"), for_good=for_good):
        if (folder / "folder").exists():
            assert failed
            assert content_of(folder / "folder") == "old"
            discard(folder / "folder")
        recover_all(folder)
        assert names(folder) == ["file"]


def test_disk_without_enough_room_is_told_in_figures(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path / "not" / "yet" / "there", free // 2)
    with pytest.raises(GemmaZeroError, match=r'^the disk is full: ".*there" needs [\d.]+ GB, [\d.]+ GB are free$'):
        require_space(tmp_path / "not" / "yet" / "there", free + 10**12)


@pytest.mark.parametrize(
    ("needed", "free", "figures"),
    [
        (1_240_000_000, 300_000_000, "needs 1.2 GB, 300.0 MB are free"),
        (67_108_864, 4096, "needs 67.1 MB, 4.1 kB are free"),
        (999, 0, "needs 1.0 kB, 0.0 kB are free"),
    ],
)
def test_figures_are_in_units_that_fit(
    needed: int, free: int, figures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(GemmaZeroError, match=figures):
        require_space(tmp_path, needed)
    require_space(tmp_path, free)


def test_disk_that_does_not_say_how_full_it_is_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at(monkeypatch, "statvfs", 0, OSError(errno.EIO, "input/output error"))
    with pytest.raises(GemmaZeroError, match="cannot write"):
        require_space(tmp_path, 1)
