import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from file_operations import intercepted
from full_disk import no_file_larger_than
from gemmazero.storage.tensor_file import stem_of, write_shards, write_tensors


def test_tensors_come_back_as_they_were_views_included(tmp_path: Path) -> None:
    whole = torch.arange(12, dtype=torch.float32).view(3, 4)
    tensors = {"a": whole, "view": whole.T[1:], "number": torch.tensor(7), "bytes": torch.arange(5, dtype=torch.uint8)}
    write_tensors(tensors, tmp_path / "t.safetensors")
    read = load_file(tmp_path / "t.safetensors")
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in tensors)


def test_file_has_the_rights_of_any_other_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors({"a": torch.ones(1)}, tmp_path / "t.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t.safetensors").stat().st_mode) == 0o640


def test_place_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_tensors({"a": torch.ones(1)}, tmp_path / "nowhere" / "t.safetensors")


def test_error_of_the_system_keeps_its_number(tmp_path: Path) -> None:
    """safetensors, in Rust, tells of it in words alone."""
    with no_file_larger_than(4096), pytest.raises(OSError, match="File too large") as raised:
        write_tensors({"a": torch.ones(4096)}, tmp_path / "t.safetensors")
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == str(tmp_path / "t.safetensors")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("operation", ["open", "write", "torn write", "chmod"])
def test_every_refusal_of_the_disk_is_an_os_error_with_its_number(operation: str, code: int, tmp_path: Path) -> None:
    def refuse(now: str, path: Path) -> None:
        if now == operation:
            raise OSError(code, os.strerror(code), str(path))

    with intercepted(refuse, tmp_path), pytest.raises(OSError, match=os.strerror(code)) as raised:
        write_tensors({"a": torch.ones(1)}, tmp_path / "t.safetensors")
    assert raised.value.errno == code


def test_folder_in_the_way_is_an_os_error_too(tmp_path: Path) -> None:
    (tmp_path / "t.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        write_tensors({"a": torch.ones(1)}, tmp_path / "t.safetensors")


def test_too_large_a_file_becomes_shards_and_a_tensor_is_never_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {"a": torch.ones(3), "b": torch.ones(2), "large": torch.ones(9), "c": torch.ones(1)}
    assert set(write_shards(tensors, tmp_path, "whole").values()) == {"whole.safetensors"}
    monkeypatch.setattr("gemmazero.storage.tensor_file.LARGEST_FILE", 20)
    places = write_shards(tensors, tmp_path, "parts")
    assert places == {
        "a": "parts-00001-of-00003.safetensors",
        "b": "parts-00001-of-00003.safetensors",
        "large": "parts-00002-of-00003.safetensors",
        "c": "parts-00003-of-00003.safetensors",
    }
    assert all(torch.equal(load_file(tmp_path / file)[name], tensors[name]) for name, file in places.items())
    assert {stem_of(tmp_path / file) for file in places.values()} == {"parts"}
