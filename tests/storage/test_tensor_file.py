import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gemmazero.storage.tensor_file import write_tensors


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
