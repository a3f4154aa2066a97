"""GemmaZero: train a Gemma-style language model from nothing, and trust it.

Importing it is quick: torch is imported when one of the names below is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gemmazero.api import LanguageModel, Training, convert, evaluate, load, prepare, resume, train, verify
    from gemmazero.errors import GemmaZeroError

__all__ = [
    "GemmaZeroError",
    "LanguageModel",
    "Training",
    "__version__",
    "convert",
    "evaluate",
    "load",
    "prepare",
    "resume",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "GemmaZeroError":
        from gemmazero import errors

        return errors.GemmaZeroError
    from gemmazero.runtime import wait_politely

    wait_politely()
    from gemmazero import api

    return getattr(api, name)
