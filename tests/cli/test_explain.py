import errno

import pytest
import typer

from gemmazero.cli.app import app
from gemmazero.cli.explain import explain
from gemmazero.errors import CheckpointError, UsageError


def test_own_errors_keep_their_words_and_exit_code() -> None:
    assert explain(CheckpointError("it is torn", "resume it")) == ("it is torn", "resume it", 1)
    assert explain(UsageError("it is unknown")) == ("it is unknown", "", 2)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "file"),
        Exception("No space left on device (os error 28)"),  # tokenizers
        Exception('IoError(Os { code: 28, kind: StorageFull, message: "…" })'),  # safetensors
    ],
)
def test_full_disk_is_told_whoever_noticed_it(error: Exception) -> None:
    told = explain(error)
    assert told is not None
    assert told[0] == "no space left on the disk"


def test_refused_memory_is_told() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    for error in (MemoryError(), raised.value, torch.OutOfMemoryError("CUDA out of memory")):
        told = explain(error)
        assert told is not None
        assert told[0] == "not enough memory"


def test_path_that_cannot_be_used_is_named() -> None:
    told = explain(PermissionError(errno.EACCES, "Permission denied", "/some/where"))
    assert told == ('permission denied: "/some/where"', "check the path and its rights", 1)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyError("x"), OSError("x")])
def test_bug_is_not_explained_away(error: Exception) -> None:
    assert explain(error) is None


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--dtype", "double", "'double' is not one of 'fp32', 'bf16', 'fp16', 'int8'"),
        ("--samples", "0", "must be at least 1"),
        ("--samples", "99999", "must be at most 10000"),
        ("--samples", "few", "must be a whole number"),
        ("--samples", "1.5", "must be a whole number"),
        ("--samples", "1" * 5000, "must be a whole number"),
        ("--temperature", "hot", "must be a number"),
    ],
)
def test_wrong_value_of_an_option_is_told_in_our_words(option: str, value: str, told: str) -> None:
    with pytest.raises(typer.TyperException) as raised:
        app(["generate", "Once", option, value], prog_name="gemmazero", standalone_mode=False)
    expected = (f"invalid value for '{option}': {told}", "gemmazero generate --help", 2)
    assert explain(raised.value) == expected
