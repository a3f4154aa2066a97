import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemmazero.hub_content import Content

DATA = bytes(range(256)) * 5000  # more than a piece


def listed(*, size: int = len(DATA), blob_id: str = "", sha256: str = "") -> Any:
    """A file as the Hub's client lists it: a large object has the sum of its own, and git's of a pointer."""
    return SimpleNamespace(size=size, blob_id=blob_id, lfs=SimpleNamespace(sha256=sha256) if sha256 else None)


def test_a_small_file_is_known_by_the_name_that_git_gives_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    blob = subprocess.run(["git", "hash-object", file], capture_output=True, text=True, check=True).stdout.strip()
    assert Content.of_file(file) == Content.of(DATA)
    assert Content.of_file(file).matches(Content.told(listed(blob_id=blob)))


def test_a_large_object_is_known_by_its_own_sum_and_not_by_its_pointers() -> None:
    entry = listed(blob_id="0" * 40, sha256=hashlib.sha256(DATA).hexdigest())
    assert Content.of(DATA).matches(Content.told(entry))
    assert not Content.of(DATA[:-1] + b"\0").matches(Content.told(entry))


@pytest.mark.parametrize(
    "other",
    [
        listed(size=len(DATA) - 1, sha256=hashlib.sha256(DATA).hexdigest()),
        listed(blob_id="0" * 40),
    ],
)
def test_another_size_or_sum_is_another_content(other: Any) -> None:
    assert not Content.of(DATA).matches(Content.told(other))


def test_nothing_in_common_proves_nothing() -> None:
    assert not Content(3, sha256="a").matches(Content(3, blob="b"))
