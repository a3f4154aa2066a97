"""Every error that GemmaZero raises on purpose: what went wrong, and what mends it."""

from copy import copy
from typing import Literal, Self

HubFailure = Literal["absent", "unreachable", "offline", "refused", "full", "conflict", "damaged", "unknown"]
LONGEST_MESSAGE = 1500  # characters


class GemmaZeroError(Exception):
    """Something a user can act on.

    What a message quotes may come from a hostile file: it is told in one line of printable characters, others as
    Python escapes them, and without its middle where it is long.

    Args:
        message: what is wrong, in lower case, with the offending value in quotes.
        hint: the command or option that mends it; empty where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def reworded(self, message: str, hint: str) -> Self:
        """The same error with these words."""
        same = copy(self)
        same.message = printable(message)
        same.hint, same.args = hint, (same.message,)
        return same


class UsageError(GemmaZeroError):
    """The call itself is wrong: an unknown name, a value out of range, options that exclude each other."""

    exit_code = 2


class ConfigError(GemmaZeroError):
    """A model config or a settings file that cannot be used."""


class DataError(GemmaZeroError):
    """A source, a tokenizer or a data folder that cannot be used."""


class CheckpointError(GemmaZeroError):
    """A checkpoint, a run folder or a model folder that is missing, damaged or does not fit."""


class HubError(GemmaZeroError):
    """The Hub could not be reached, refused, or answered with something damaged.

    Args:
        message: what is wrong.
        hint: what mends it.
        kind: ``absent`` is the Hub's own word for it; ``unreachable`` includes one that is busy or has trouble;
            ``offline`` is this machine's own wish; ``refused`` is for want of rights; ``full`` is its storage;
            ``conflict`` is another writer.
        retry_after: seconds that the Hub asked to wait.
    """

    def __init__(self, message: str, hint: str = "", *, kind: HubFailure = "unknown", retry_after: float = 0.0) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.retry_after = retry_after


class TrainingError(GemmaZeroError):
    """A training run that cannot go on."""


class CompilationError(GemmaZeroError):
    """Nothing can be compiled on this machine."""


class MemoryShortageError(TrainingError):
    """A training run that this device has not enough memory for."""


_WORDS_OF_TORCH = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, or torch on a CPU or a GPU, was refused memory; told by name, as torch may not be loaded."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS_OF_TORCH))
    )


def printable(text: str) -> str:
    """``text`` in one line of printable characters, others as Python escapes them, without its middle where long."""
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[: LONGEST_MESSAGE // 2]} … {text[-LONGEST_MESSAGE // 2 :]}"
    letters = text.replace("\n", " ")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in letters)
