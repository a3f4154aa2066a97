"""A field of a settings dataclass that is also a command-line option: default, meaning and bounds, written once."""

import dataclasses
from typing import Any, Literal, get_args

from gemmazero.errors import UsageError

Kind = Literal["fixed", "equivalent", "exact"]

LARGEST_SEED = 2**63 - 1  # what every random generator takes
_LARGEST = {int: 2**31 - 1, float: 1e38}  # what fits a float32 and every library's counts


def setting(
    default: Any,
    help: str,  # noqa: A002 - the field's word for it on every command line
    *,
    panel: str,
    kind: Kind = "fixed",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A dataclass field that is also a command-line option.

    ``kind`` says what a resumed run may do with it: *exact* settings change no bit of the result, *equivalent* ones
    only the rounding, *fixed* ones are refused.
    """
    metadata = {"help": help, "panel": panel, "kind": kind, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


def check_settings(config: Any) -> None:
    """Check each field of a dataclass of settings against its type and its bounds; no text may be empty, or no UTF-8.

    Where a field names no maximum, its type has one. Raises UsageError, with the field's meaning for a hint.
    """
    for item in dataclasses.fields(config):
        if wrong := _wrong(getattr(config, item.name), item):
            option = "--" + item.name.replace("_", "-")
            raise UsageError(f"{option} {wrong}", f"{option}: {item.metadata['help']}")


def words_of(kind: Any) -> tuple[str, ...]:
    """The words that a setting may be beside a number: ("auto",) of ``int | Literal["auto"]``."""
    return tuple(word for part in get_args(kind) for word in get_args(part))


def _wrong(value: Any, item: "dataclasses.Field[Any]") -> str:
    """What is wrong with the value of a field; empty where it is right."""
    kinds, minimum = get_args(item.type) or (item.type,), item.metadata["minimum"]
    if isinstance(kinds[0], str):
        return "" if value in kinds else f'"{value}" is unknown: one of {", ".join(kinds)}'
    if isinstance(value, str) and value in words_of(item.type):
        return ""
    if float in kinds and (type(value) not in (int, float) or value != value):
        return f'must be a number, not "{value}"'
    if float not in kinds and type(value) not in kinds:
        return f'must be of type {" or ".join([kinds[0].__name__, *words_of(item.type)])}, not "{value}"'
    if value == "":
        return "must not be empty"
    if isinstance(value, str) and value.encode(errors="replace").decode() != value:
        return f'must be UTF-8, as it is recorded, not "{value}"'
    if minimum is not None and value < minimum:
        return f"must be at least {minimum:g}, not {value}"
    maximum = item.metadata["maximum"] or _LARGEST.get(kinds[0])
    return f"must be at most {maximum}" if maximum is not None and value > maximum else ""
