"""Whether a verified checkpoint's training state says what one must: a sum that is right proves no good will."""

import math
from collections.abc import Callable
from typing import Any

from gemmazero.data.stream import BOOKMARK
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.json_file import parse_json
from gemmazero.regular_file import read_bytes
from gemmazero.run_config import Extension, extensions_from
from gemmazero.storage.checkpoint import Checkpoint

LARGEST_HISTORY = 2**30  # bytes: millions of steps


def check_state(checkpoint: Checkpoint) -> tuple[tuple[Extension, ...], tuple[str, ...]]:
    """The extensions of the run when it was saved, and the lines of its history.

    Raises CheckpointError where the record or the history is not that of a run at the checkpoint's step.
    """
    try:
        record = checkpoint.record()
        extensions = extensions_from(record)
        is_sound = record.get("step") == checkpoint.step and all(
            is_right(record.get(name)) for name, is_right in _RECORD.items()
        )
        history = read_bytes(checkpoint.folder / "training" / "history.jsonl", LARGEST_HISTORY).splitlines()
        is_sound = is_sound and all(_is_line(parse_json(line), checkpoint.step) for line in history)
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{checkpoint.folder}" has an unreadable training state: {error}') from error
    if not is_sound:
        raise CheckpointError(f'"{checkpoint.folder}" has a training state that is none of step {checkpoint.step}')
    return extensions, tuple(line.decode() for line in history)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_best(value: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and set(value) == {"step", "loss"}
        and _is_count(value["step"])
        and (_is_number(value["loss"]))
    )


def _is_bookmark(value: Any) -> bool:
    """Whether this is None, or says where in a stream a batch begins."""
    return value is None or (isinstance(value, dict) and set(value) == BOOKMARK and all(map(_is_count, value.values())))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


_COUNTS = ("step", "batch", "tokens", "validated_step", "skipped_in_a_row", "skips", "rollbacks")
_RECORD: dict[str, Callable[[Any], bool]] = dict.fromkeys(_COUNTS, _is_count) | {
    "loss": _is_number_or_none, "best": _is_best, "bookmark": _is_bookmark, "scaler": _is_dict, "environment": _is_dict,
}  # fmt: skip


def _is_line(line: Any, last_step: int) -> bool:
    """Whether this is a step, a validation, a skipped batch or a way back, of ``last_step`` at most."""
    if not isinstance(line, dict) or not _is_count(line.get("step")) or line["step"] > last_step:
        return False
    match line.get("event"):
        case "stepped":
            return _is_number(line.get("loss")) and _is_count(line.get("batch"))
        case "validated":
            return _is_number(line.get("loss"))
        case "skipped":
            return _is_count(line.get("batch"))
        case "rolled_back":
            skipped = line.get("skipped")
            is_list = isinstance(skipped, list) and bool(skipped) and all(map(_is_count, skipped))
            return is_list and _is_count(line.get("from_step"))
    return False
