"""JSON that somebody else wrote: read strictly and within limits, or an error that says why not."""

import json
import math
import re
from itertools import chain
from pathlib import Path
from typing import Any

from gemmazero.errors import ConfigError
from gemmazero.regular_file import read_bytes

LARGEST_JSON = 2**23  # bytes: thousands of times what a config needs, and some 250 MB at most once it is parsed
DEEPEST_JSON = 64  # objects and lists within each other

_CONTAINERS = {dict, list}
_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
AGAIN = "copy it again from where it came from"


def read_json(path: Path, *, limit_bytes: int = LARGEST_JSON, hint: str = AGAIN) -> Any:
    """The JSON object in the regular file ``path``, as strictly as ``parse_json``.

    Raises ConfigError; where the file holds something else, with this ``hint``.
    """
    try:
        record = parse_json(read_bytes(path, limit_bytes))
    except FileNotFoundError:
        raise ConfigError(f'no such file: "{path}"', "check its path, or copy it there") from None
    except OSError as error:
        raise ConfigError(
            f'cannot read "{path}": {error.strerror or error}', "check the path and its rights"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f'"{path}" is not JSON: {error}', hint) from error
    except ValueError as error:
        raise ConfigError(f'cannot read "{path}": {error}', hint) from error
    if not isinstance(record, dict):
        raise ConfigError(f'"{path}" does not hold a JSON object', hint)
    return record


def parse_json(data: bytes) -> Any:
    """The value that UTF-8 JSON spells. Raises ValueError for all else.

    A name given twice, NaN, a number beyond a float, half a surrogate pair and ``DEEPEST_JSON`` are refused: what is
    read means the same to every reader, and can be shown, hashed and written again.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8-sig"))
        if _HALF_A_PAIR.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if _is_deeper(value, DEEPEST_JSON):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"its objects and lists are more than {DEEPEST_JSON} within each other"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = iter(found)  # in the order of their first places: where the two part, a name comes again
        twice = next(name for name, _ in pairs if name != next(names, None))
        raise ValueError(f'"{twice[:100]}" is given twice')
    return found


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value] if type(value) in _CONTAINERS else []
    while level and levels:
        insides = (parent.values() if type(parent) is dict else parent for parent in level)
        level = [child for child in chain.from_iterable(insides) if type(child) in _CONTAINERS]
        levels -= 1
    return bool(level)
