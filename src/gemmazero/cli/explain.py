"""Errors that a user or the machine can cause → a message, a hint and an exit code."""

import difflib
import errno
import re

import typer

from gemmazero.errors import GemmaZeroError, is_out_of_memory

_REWORDED = {
    r": Value error, ": ": ",
    r": (Input should be a valid|Unable to parse input string as an) integer\b.*": ": must be a whole number",
    r": Input should be a valid number\b.*": ": must be a number",
    r": Input should be greater than or equal to ": ": must be at least ",
    r": Input should be less than or equal to ": ": must be at most ",
}


def explain(error: Exception) -> tuple[str, str, int] | None:
    """The message, the hint and the exit code; None for anything else, which is a bug of ours."""
    if isinstance(error, GemmaZeroError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):
        return _explain_usage(error)
    if _is_full_disk(error):
        return "no space left on the disk", "free some space, then give the same command again", 1
    if is_out_of_memory(error):
        hint = "take a smaller --micro-batch-size, --sequence-length or model, or --gradient-checkpointing"
        return "not enough memory", hint, 1
    if isinstance(error, OSError) and error.filename is not None:
        return f'{(error.strerror or "cannot use").lower()}: "{error.filename}"', "check the path and its rights", 1
    return None


def _explain_usage(error: typer.TyperException) -> tuple[str, str, int]:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "gemmazero"
    wrong, known = getattr(error, "option_name", ""), getattr(error, "possibilities", None) or []
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.7)
    message = " ".join((error.message if close else error.format_message()).split()).rstrip(".")
    for pydantics, ours in _REWORDED.items():
        message = re.sub(pydantics, ours, message)
    hint = f"did you mean {close[0]}? {command} --help" if close else f"{command} --help"
    return message[:1].lower() + message[1:], hint, error.exit_code


def _is_full_disk(error: Exception) -> bool:
    """Whether the disk or the quota is full, be it Python, or a library written in Rust, that noticed."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error) or "StorageFull" in str(error)
