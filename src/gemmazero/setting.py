"""A field of a settings dataclass that is also a command-line option: default, meaning and bounds, written once."""

import dataclasses
import math
from typing import Any, Literal, get_args

from gemmazero.errors import UsageError

Kind = Literal["fixed", "equivalent", "exact"]


def setting(
    default: Any,
    help: str,  # noqa: A002 - the field's word for it on every command line
    *,
    panel: str,
    kind: Kind = "fixed",
    minimum: float | None = None,
) -> Any:
    """A dataclass field that is also a command-line option.

    ``kind`` says what a resumed run may do with it: *exact* settings change no bit of the result, *equivalent* ones
    only the rounding, *fixed* ones are refused.
    """
    return dataclasses.field(default=default, metadata={"help": help, "panel": panel, "kind": kind, "minimum": minimum})


def check_settings(config: Any) -> None:
    """Check each field of a dataclass of settings against its type and its minimum. Raises UsageError."""
    for item in dataclasses.fields(config):
        value, minimum = getattr(config, item.name), item.metadata["minimum"]
        option = "--" + item.name.replace("_", "-")
        choices = get_args(item.type)
        if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
            raise UsageError(f'{option} "{value}" is unknown', f"one of {', '.join(choices)}")
        if item.type in (int, bool, str) and type(value) is not item.type:
            raise UsageError(f'{option} must be of type {item.type.__name__}, not "{value}"')
        if item.type is float and (type(value) not in (int, float) or not math.isfinite(value)):
            raise UsageError(f'{option} must be a number, not "{value}"')
        if minimum is not None and value < minimum:
            raise UsageError(f"{option} must be at least {minimum:g}, not {value:g}")
