import errno
import os
from pathlib import Path

import pytest

from gemmazero.regular_file import leads_out, open_regular, read_bytes


def test_regular_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"content")
    (tmp_path / "one").symlink_to("blob")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with open_regular(tmp_path / "two") as file:
        assert file.read() == b"content"
    assert read_bytes(tmp_path / "two", 7) == b"content"


def test_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_device_is_refused(device: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(Path(device), 10)


def test_refused_files_are_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r"regular|directory"):
            open_regular(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_folder_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        open_regular(tmp_path)


def test_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "absent", 10)


@pytest.mark.parametrize(("name", "code"), [("a\0b", errno.EINVAL), ("x" * 5000, errno.ENAMETOOLONG)])
def test_name_that_no_file_can_have_is_an_os_error(tmp_path: Path, name: str, code: int) -> None:
    with pytest.raises(OSError, match=r".") as raised:
        open_regular(tmp_path / name)
    assert raised.value.errno == code


def test_ring_of_links_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "ring")


def test_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="at most 1000 are read"):
        read_bytes(tmp_path / "hole", 1000)


def test_limit_is_the_largest_size_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, and at most 4 are read"):
        read_bytes(tmp_path / "file", 4)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("inside", False), ("../folder/inside", False), ("absent", False), ("../outside", True), ("/etc/passwd", True),
     ("link", True)],
)  # fmt: skip
def test_link_leads_out_where_its_end_does(tmp_path: Path, target: str, expected: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder / "inside", tmp_path / "outside"):
        path.touch()
    (folder / "link").symlink_to(target)
    assert leads_out(folder / "link", folder) is expected
    assert leads_out(folder / "inside", folder) is False


def test_folder_that_is_itself_reached_by_a_link_holds_its_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    assert leads_out(tmp_path / "link" / "file", tmp_path / "link") is False
