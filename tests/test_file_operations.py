"""The shim itself: what it tells is what happens, and what it refuses has not happened."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from file_operations import intercepted

CHANGES = (
    ("mkdir", "folder"), ("open", "folder/text"), ("write", "folder/text"), ("torn write", "folder/text"),
    ("fsync", "folder/text"), ("chmod", "folder/text"), ("rename", "folder/new"), ("open", "folder/new"),
    ("write", "folder/new"), ("torn write", "folder/new"), ("truncate", "folder/new"), ("replace", "folder/newer"),
    ("write", "folder/t"), ("torn write", "folder/t"), ("mkdir", "folder/inner"), ("rmdir", "folder/inner"),
    ("unlink", "folder/t"),
)  # fmt: skip
CLEARING = {("unlink", "folder/newer"), ("rmdir", "folder")}


def change(parent: Path) -> None:
    """Each operation that changes something, and some that only look."""
    folder = parent / "folder"
    folder.mkdir()
    (folder / "text").write_bytes(b"hello")
    descriptor = os.open(folder / "text", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    (folder / "text").chmod(0o600)
    (folder / "text").rename(folder / "new")
    with (folder / "new").open("ab", buffering=0) as file:
        file.write(b"more")
        file.truncate(3)
    (folder / "new").replace(folder / "newer")
    assert (folder / "newer").read_bytes() == b"hel"
    save_file({"a": torch.arange(5)}, folder / "t")
    assert load_file(folder / "t")["a"].tolist() == [0, 1, 2, 3, 4]
    (folder / "inner").mkdir()
    (folder / "inner").rmdir()
    (folder / "t").unlink()
    shutil.rmtree(folder)


def test_every_change_is_told_in_order_and_by_name(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    with intercepted(lambda operation, path: seen.append((operation, path.relative_to(tmp_path).as_posix()))):
        change(tmp_path)
    assert tuple(seen[: len(CHANGES)]) == CHANGES
    assert set(seen[len(CHANGES) :]) == CLEARING


def test_each_refusal_comes_before_the_deed_and_a_torn_write_after_half_of_it(tmp_path: Path) -> None:
    for number, (operation, name) in enumerate(CHANGES):
        told: list[str] = []

        def refuse(operation: str, path: Path, told: list[str] = told, number: int = number) -> None:
            told.append(operation)
            if len(told) == number + 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        parent = tmp_path / str(number)
        parent.mkdir()
        with intercepted(refuse), pytest.raises((OSError, SafetensorError), match=os.strerror(errno.EIO)):
            change(parent)
        there = {path.name for path in parent.rglob("*")}
        expected = {"mkdir": False, "rename": False, "replace": False, "unlink": True, "rmdir": True}
        if (operation, name) == ("open", "folder/text"):
            assert there == {"folder"}
        if operation in expected:
            assert (Path(name).name in there) == expected[operation], operation
        if (operation, name) == ("write", "folder/text"):
            assert (parent / name).read_bytes() == b""
        if (operation, name) == ("torn write", "folder/text"):
            assert (parent / name).read_bytes() == b"he"
        if (operation, name) == ("torn write", "folder/t"):
            assert 0 < (parent / name).stat().st_size < 8 * 5 + 16


def test_other_folders_are_not_told_of_and_what_changes_nothing_only_where_it_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    seen: list[str] = []
    with intercepted(lambda operation, _: seen.append(operation), tmp_path / "in", changes_only=False):
        (tmp_path / "out").write_text("")
        (tmp_path / "in" / "file").write_text("")
        list((tmp_path / "in").iterdir())
        (tmp_path / "in" / "file").read_text()
        print("a pipe, or a file elsewhere", file=sys.stderr)
    assert seen == ["open", "close", "list", "read"]


def test_everything_is_as_before_afterwards() -> None:
    def functions() -> tuple[object, ...]:
        return os.open, os.rename, os.write, open, save_file.__globals__["serialize_file"]

    before = functions()
    with intercepted(lambda *_: None):
        assert all(one is not other for one, other in zip(functions(), before, strict=True))
    assert functions() == before
