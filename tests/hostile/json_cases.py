"""What no JSON file may do, done to each JSON file that is read."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.case import Case, Spoil, bytes_of, made_by

JSON_FILES = {  # the file, its part of the world, who reads it, and whether the reader can do without it
    "config.json": ("model", "load", False),
    "tokenizer.json": ("model", "load", False),
    "tokenizer_config.json": ("model", "load", False),
    "generation_config.json": ("model", "load", True),
    "model.safetensors.index.json": ("sharded", "load_shards", False),
    "tiny.json": ("settings", "train_a_preset", False),
    "manifest.json": ("data", "evaluate", False),
    "run.json": ("run", "resume", False),
    "best.json": ("run", "load_run", True),
    "checkpoints/step-00000004/checkpoint.json": ("run", "verify", False),
    "talk.json": ("talks", "chat", False),
}

CONTENTS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "white space": bytes_of(b" \n\t", times=100),
    "null": bytes_of(b"null"),
    "a number": bytes_of(b"1e5"),
    "a text": bytes_of(b'"config"'),
    "a list": bytes_of(b"[1, 2, 3]"),
    "an empty object": bytes_of(b"{}"),
    "half an object": bytes_of(b'{"a": 1, "b": [2,'),
    "more than one value": bytes_of(b"{} {}"),
    "a comment": bytes_of(b'{"a": 1} // so much for that'),
    "a NUL": bytes_of(b'{"a\x00": 1}'),
    "only zeros": bytes_of(b"\x00", times=10_000),
    "no UTF-8": bytes_of(b'{"a": "\xff\xfe"}'),
    "UTF-16": bytes_of('{"a": 1}'.encode("utf-16")),
    "a pickle": bytes_of(b"\x80\x04\x95\x0f" + bytes(7) + b"\x8c\x05posix\x94\x8c\x06system\x94\x93."),
    "lists within lists": bytes_of(b"[", times=200_000),
    "lists within lists, closed": bytes_of(b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "objects within objects": bytes_of(b'{"a": ', times=200_000),
    "a million empty objects": made_by(lambda: bytes_of(b'{"a": [' + b"{}," * 1_000_000 + b"{}]}")),
    "a million objects of one": made_by(lambda: bytes_of(b'{"a": [' + b'{"":0},' * 1_000_000 + b"0]}")),
    "a text of five million characters": made_by(
        lambda: bytes_of(b'{"a": "' + "😀".encode() + b"x" * 5_000_000 + b'"}')
    ),
    "ten megabytes of white space": bytes_of(b" ", times=10_000_000, end=b"{}"),
}


def to_values(change: Callable[[dict[str, Any]], None]) -> Spoil:
    """The same object but for ``change``, which is given it."""

    def spoil(file: Path) -> None:
        record = json.loads(file.read_bytes())
        change(record)
        file.write_text(json.dumps(record))

    return spoil


def set_to(*path: Any, to: Any) -> Spoil:
    """The same object with another value at ``path``."""

    def change(record: dict[str, Any]) -> None:
        place: Any = record
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return to_values(change)


def without(key: str) -> Spoil:
    """The same object without one of its keys."""
    return to_values(lambda record: record.pop(key))


def added(text: bytes) -> Spoil:
    """The same object with ``text`` written in, as its first key and value."""

    def spoil(file: Path) -> None:
        file.write_bytes(file.read_bytes().replace(b"{", b"{" + text + b",", 1))

    return spoil


def again(file: Path) -> None:
    """The same object, whose first key is given a second time."""
    key = next(iter(json.loads(file.read_bytes())))
    file.write_bytes(file.read_bytes().rstrip().removesuffix(b"}") + f',"{key}": null}}'.encode())


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_link_to(target: str) -> Spoil:
    def spoil(file: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    return spoil


def as_link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def as_hole(gigabytes: float) -> Spoil:
    """So much that takes no room on the disk."""

    def spoil(file: Path) -> None:
        with file.open("r+b") as opened:
            opened.truncate(int(gigabytes * 2**30))

    return spoil


NOT_FILES: dict[str, Spoil] = {
    "a pipe": as_pipe,
    "a folder": as_folder,
    "a device without end": as_link_to("/dev/zero"),
    "a terminal": as_link_to("/dev/tty"),
    "a link to nothing": as_link_to("absent"),
    "a link to itself": as_link_to_itself,
    "a hole of ten gigabytes": as_hole(10),
}

EDITED: dict[str, Spoil] = {
    "cut in half": cut_in_half,
    "its first key given twice": again,
    "a NaN": added(b'"hostile": NaN'),
    "an infinity": added(b'"hostile": -Infinity'),
    "a number beyond a float": added(b'"hostile": 1e999'),
    "a number of 5000 digits": added(b'"hostile": ' + b"9" * 5000),
    "half a surrogate pair": added(b'"hostile": "\\ud800"'),
    "half a surrogate pair in a key": added(b'"\\udfff": 1'),
    "a key of a million characters": made_by(lambda: added(b'"' + b"x" * 1_000_000 + b'": 1')),
}

MAY_BE_PASSED_OVER = {  # keys that a file of somebody else's may well have, and that mean nothing here
    "a key of a million characters": {"config.json", "tokenizer.json", "tokenizer_config.json", "tiny.json",
                                      "model.safetensors.index.json", "talk.json"},
    **{name: {"tokenizer_config.json"} for name in (
        "an empty object", "a text of five million characters", "a million empty objects", "a million objects of one",
        "a link to nothing", "a link to itself")},
}  # fmt: skip


def json_cases() -> Iterator[Case]:
    spoils = CONTENTS | NOT_FILES | EDITED
    for file, (part, entry, is_optional) in JSON_FILES.items():
        for name, spoil in spoils.items():
            passed_over = file in MAY_BE_PASSED_OVER.get(name, ())
            yield Case(name, part, file, entry, spoil, is_harmless=is_optional or passed_over)
