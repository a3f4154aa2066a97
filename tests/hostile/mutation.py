"""A good file changed at random: its bytes, or the values of the JSON in it."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 2**16, 2**24, 2**31, 2**32, 2**63, 2**64, 10**300, 0.5, -0.0, 1e308, 1e-308,
    "", "a", "\0", "../..", "/dev/zero", "x" * 300, "😀", "\x1b[2J", [], {}, [[]], [0], {"": 0}, {"type": "Sequence"},
)  # fmt: skip
_PIECES = (b"\0", b"\xff", b"9", b"-", b"[", b"{", b'"', b"\\", b"1e999", b",", b"\n", b"\xf0\x9f\x98\x80")


def changed(data: bytes, chance: random.Random) -> bytes:
    """``data``, changed a little: once as JSON where it is that, else a few times as bytes."""
    if chance.random() < 0.5:
        try:
            record = json.loads(data)
        except ValueError:
            pass
        else:
            return json.dumps(changed_value(record, chance)).encode()
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        data = _changed_bytes(data, chance)
    return data


def changed_value(value: Any, chance: random.Random) -> Any:
    """``value`` with something else at a random place: another value, one more, one less, one moved from elsewhere."""
    places = list(_places(value))
    if not places:
        return chance.choice(ODD)
    holder, key = chance.choice(places)
    kind = chance.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, other_key = chance.choice(places)
        holder[key] = copy.deepcopy(other[other_key])
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, chance.choice(ODD))
    elif kind == 2:
        holder[str(chance.choice(ODD))] = chance.choice(ODD)
    elif kind == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = chance.choice([holder[key] + 1, holder[key] - 1, -holder[key], holder[key] * 2])
    else:
        holder[key] = chance.choice(ODD)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (object or list, key) within ``value``."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                waiting.append(holder[key])


def _changed_bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice([1, 1, 1, 2, 8, 100, 10_000]))
    match chance.randrange(7):
        case 0:
            flipped = bytes(byte ^ 1 << chance.randrange(8) for byte in data[start : start + 1])
            return data[:start] + flipped + data[start + 1 :]
        case 1:
            return data[:start] + chance.randbytes(end - start) + data[end:]
        case 2:
            return data[:start] + chance.choice(_PIECES) + data[start:]
        case 3:
            return data[:start] + data[end:]
        case 4:
            return data[:end] + data[start:end] * chance.choice([1, 2, 50]) + data[end:]
        case 5:
            return data[:start]
        case _:
            other = chance.randrange(len(data) + 1)
            return data[:start] + data[other : other + end - start] + data[end:]
