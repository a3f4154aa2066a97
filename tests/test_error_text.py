"""What a GemmaZeroError quotes is hostile: it is shown without harm to a terminal or a log. What others call memory."""

import pytest
import torch

from gemmazero.errors import LONGEST_MESSAGE, GemmaZeroError, is_out_of_memory


def test_message_is_one_line_of_printable_characters() -> None:
    error = GemmaZeroError('no "\x1b[2J\x00\udcff\u202e" in\nit, "Ünï\U0001f431"')
    assert error.message == r'no "\x1b[2J\x00\udcff\u202e" in it, "Ünï🐱"'
    assert str(error) == error.message


def test_long_message_keeps_its_two_ends() -> None:
    error = GemmaZeroError("the name " + "x" * 10**6 + " is too long")
    assert error.message.startswith("the name xxx")
    assert error.message.endswith("xxx is too long")
    assert len(error.message) == LONGEST_MESSAGE + 3
    assert GemmaZeroError("x" * LONGEST_MESSAGE).message == "x" * LONGEST_MESSAGE


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_refused_memory_is_known_by_all_its_names(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
