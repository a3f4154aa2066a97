"""``--config FILE.toml``: what the command line could say, written in a file."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from gemmazero.config import STREAM_OPTIONS, PrepareConfig, TrainConfig
from gemmazero.errors import ConfigError, UsageError
from gemmazero.regular_file import read_bytes
from gemmazero.setting import words_of

PLACES = ("preset", "data", "out", "init")  # of `train`, beside the settings of TrainConfig

_LARGEST_FILE = 2**16  # bytes
_LONGEST_LINE = 1024  # characters: tomllib's time and memory grow with the square of a dotted key


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, under the names of ``train``'s options with underscores.

    Raises ConfigError for a file that cannot be read or is not TOML, UsageError for an unknown key or a value of the
    wrong type, as on the command line.
    """
    try:
        text = read_bytes(path, _LARGEST_FILE).decode("utf-8-sig")
        if any(len(line) > _LONGEST_LINE for line in text.splitlines()):
            raise ValueError(f"a line of more than {_LONGEST_LINE} characters")
        record = tomllib.loads(text)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError(f'{reason}: "{path}"', "--config takes a TOML file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f'"{path}" is not TOML: {error}', "write a setting a line: steps = 300") from error
    of_train = {item.name: item.type for item in dataclasses.fields(TrainConfig)}
    of_stream = {item.name: item.type for item in dataclasses.fields(PrepareConfig) if item.name in STREAM_OPTIONS}
    known: Mapping[str, Any] = dict.fromkeys(PLACES, str) | of_train | of_stream
    for key, value in record.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f'unknown setting "{key}" in "{path}"',
                f"did you mean {close[0]}?" if close else "gemmazero train --help names them, here with underscores",
            )
        if not _fits(value, known[key]):
            raise UsageError(
                f'{key} in "{path}" must be {_described(known[key])}, not "{value}"',
                "gemmazero train --help tells what each setting means",
            )
    return record


def _fits(value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(kinds[0], str):
        return value in kinds
    if words := words_of(kind):
        return value in words or type(value) is int
    if isinstance(value, str) and "\0" in value:  # no name of a file has one
        return False
    return type(value) in kinds or (float in kinds and type(value) is int)


def _described(kind: Any) -> str:
    kinds = get_args(kind) or (kind,)
    if isinstance(kinds[0], str):
        return f"one of {', '.join(kinds)}"
    named = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kinds[0]]
    return " or ".join([named, *words_of(kind)])
