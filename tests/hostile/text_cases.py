"""Settings, saved conversations, and texts to prepare."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from hostile.case import Case, Spoil, bytes_of, made_by
from hostile.json_cases import NOT_FILES, as_hole, cut_in_half

_DEEP = 3000
_NOT_TEXTS = {  # a folder is a source like any other, and what is large is read, for as long as that takes
    name: spoil for name, spoil in NOT_FILES.items() if name not in ("a folder", "a hole of ten gigabytes")
}

SETTINGS: dict[str, Spoil] = {
    "no TOML": bytes_of(b"steps: 5"),
    "no UTF-8": bytes_of(b'preset = "\xff"'),
    "UTF-16": bytes_of("steps = 5".encode("utf-16")),
    "a NUL": bytes_of(b"steps = 5\x00"),
    "a NUL in a path": bytes_of(b'out = "\\u0000"'),
    "half a surrogate pair": bytes_of(b'out = "\\ud800"'),
    "a key given twice": bytes_of(b"steps = 5\nsteps = 6"),
    "an unknown key": bytes_of(b"evil = 1"),
    "a key that moves the cursor": bytes_of(b'"\\u001b[2J\\u0007" = 1'),
    "a table": bytes_of(b"[steps]\na = 1"),
    "a number of 5000 digits": bytes_of(b"steps = " + b"9" * 5000),
    "a hexadecimal number of 900 digits": bytes_of(b"steps = 0x" + b"f" * 900),
    "a hexadecimal number of 5000 digits": bytes_of(b"steps = 0x" + b"f" * 5000),
    "a NaN": bytes_of(b"learning_rate = nan"),
    "an infinity": bytes_of(b"learning_rate = inf"),
    "minus an infinity": bytes_of(b"weight_decay = -inf"),
    "a date": bytes_of(b"steps = 1979-05-27T07:32:00Z"),
    "a dotted key of 8000 parts": bytes_of(b".".join([b"a"] * 8000) + b" = 1"),
    "a dotted table of 8000 parts": bytes_of(b"[[" + b".".join([b"a"] * 8000) + b"]]"),
    "dotted keys on many lines": bytes_of(b"\n".join(b"x%d" % line + b".a" * 400 + b" = 1" for line in range(70))),
    "lists within lists": bytes_of(b"steps = " + b"[" * 100_000),
    "lists within lists, a line each": bytes_of(b"steps = " + b"[\n" * _DEEP + b"]\n" * _DEEP),
    "tables within tables": bytes_of(b"steps = " + b"{a=" * _DEEP),
    "a megabyte of comments": bytes_of(b"# x\n", times=300_000),
    "a text without an end": bytes_of(b'out = "' + b"x" * 900),
} | NOT_FILES  # fmt: skip


def talk(messages: Any) -> Spoil:
    return bytes_of(json.dumps({"messages": messages}).encode())


def said(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


TALKS: dict[str, Spoil] = {
    "no messages": bytes_of(b'{"talk": []}'),
    "messages that are a text": talk("hello"),
    "messages that are an object": talk({"0": said("user", "a")}),
    "messages of texts": talk(["hello"]),
    "messages of nothing": talk([None, None]),
    "a role that is a number": talk([said(1, "a"), said("assistant", "b")]),
    "a content that is a list": talk([said("user", ["a"]), said("assistant", "b")]),
    "a content that is null": talk([said("user", None), said("assistant", "b")]),
    "a role that is unknown": talk([said("tool", "a"), said("assistant", "b")]),
    "two turns of one": talk([said("user", "a"), said("user", "b")]),
    "a turn without an answer": talk([said("user", "a")]),
    "a system in the middle": talk([said("user", "a"), said("assistant", "b"), said("system", "c")]),
    "an answer first": talk([said("assistant", "a"), said("user", "b")]),
    "four megabytes of text": made_by(lambda: talk([said("user", "x" * 4_000_000), said("assistant", "b")])),
    "half a surrogate pair in a turn": talk([said("user", "\ud800"), said("assistant", "b")]),
}
HARMLESS_TALKS: dict[str, Spoil] = {
    "special tokens": talk([said("user", "<|endoftext|><end_of_turn>"), said("assistant", "<start_of_turn>system")]),
    "ten thousand turns": made_by(lambda: talk([said("user", "a"), said("assistant", "b")] * 10_000)),
    "a long system": made_by(lambda: talk([said("system", "x " * 200_000), said("user", "a"), said("assistant", "b")])),
    "a long turn": made_by(lambda: talk([said("user", "x" * 900_000), said("assistant", "y")])),
    "control characters": talk([said("user", "\x1b[2J\x00\x07"), said("assistant", "\x1b]0;owned\x07")]),
    "templates": talk([said("user", "{{ 7 * 7 }}{% for x in y %}"), said("assistant", "${HOME} `id`")]),
}

LINES: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "no UTF-8": bytes_of(b'{"text": "\xff"}\n' * 3),
    "half surrogate pairs": bytes_of(b'{"text": "\\ud800"}\n' * 3),
    "a line that is no JSON": bytes_of(b'{"text": "a"}\n{"text"\n'),
    "a line that is a list": bytes_of(b'["text"]\n'),
    "a line that is null": bytes_of(b"null\n"),
    "a text that is a number": bytes_of(b'{"text": 7}\n'),
    "a text that is deep within lists": bytes_of(b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}\n"),
    "a text that is an object": bytes_of(b'{"text": {"a": 1}}\n'),
    "no text": bytes_of(b'{"content": "a"}\n'),
    "a hundred thousand keys": made_by(
        lambda: bytes_of(json.dumps({f"k{number}": 1 for number in range(100_000)}).encode())),
    "a key that moves the cursor": bytes_of(b'{"\\u001b[2J\\u0007": 1}\n'),
    "a number of 5000 digits": bytes_of(b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n"),
    "lists within lists": bytes_of(b'{"text": "a", "n": ' + b"[" * 200_000),
    "two million empty objects": made_by(
        lambda: bytes_of(b'{"text": "a", "n": [' + b"{}," * 2_000_000 + b"{}]}\n")),
    "two million objects of one": made_by(
        lambda: bytes_of(b'{"text": "a", "n": [' + b'{"":0},' * 2_000_000 + b"0]}\n")),
    "a line of twenty megabytes": made_by(lambda: bytes_of(b'{"text": "' + b"x" * 20_000_000 + b'"}\n')),
    "a hundred megabytes of zeros": bytes_of(b"\x00", times=100_000_000),
    "white space": bytes_of(b" \n" * 1000),
    "a zip": bytes_of(b"PK\x03\x04" + b"\x00" * 1000),
    "a hole of half a gigabyte": as_hole(0.5),
} | _NOT_TEXTS  # fmt: skip

TEXTS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "white space": bytes_of(b" \n\t" * 1000),
    "no UTF-8": bytes_of(b"\xff\xfe\xfa"),
    "UTF-16": bytes_of("Once upon a time".encode("utf-16")),
    "a byte order mark alone": bytes_of(b"\xef\xbb\xbf"),
    "a hole of half a gigabyte": as_hole(0.5),
} | _NOT_TEXTS  # fmt: skip


def table(columns: dict[str, Any], **options: Any) -> Spoil:
    return lambda file: pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)


def with_bytes(place: int, content: bytes) -> Spoil:
    """Other bytes at ``place``, counted from the end where that is negative."""

    def spoil(file: Path) -> None:
        data = bytearray(file.read_bytes())
        start = place % len(data)
        data[start : start + len(content)] = content
        file.write_bytes(data)

    return spoil


def one_long_text(rows: int, characters: int, **options: Any) -> Spoil:
    """Rows that are one and the same text, which a dictionary, or compression, holds once."""

    def spoil(file: Path) -> None:
        text = pyarrow.array(["x" * characters])
        column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), text)
        if not options.get("use_dictionary", True):
            column = column.dictionary_decode()
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), file, compression="zstd", **options)

    return spoil


TABLES: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "a zip": bytes_of(b"PK\x03\x04" + b"\x00" * 1000),
    "its magic alone": bytes_of(b"PAR1"),
    "its magic twice": bytes_of(b"PAR1PAR1"),
    "a footer of 2^32 - 1 bytes": with_bytes(-8, b"\xff\xff\xff\xff"),
    "a footer of no bytes": with_bytes(-8, b"\x00\x00\x00\x00"),
    "a footer of ones": with_bytes(-200, b"\xff" * 100),
    "cut in half": cut_in_half,
    "no text": table({"content": ["a"]}),
    "texts that are numbers": table({"text": [1, 2]}),
    "texts that are lists": table({"text": [["a"], ["b"]]}),
    "no rows": table({"text": pyarrow.array([], pyarrow.string())}),
    "texts that are null": table({"text": pyarrow.array([None, None], pyarrow.string())}),
    "texts that are no UTF-8": table({"text": pyarrow.array([b"\xff", b"\xfe"], pyarrow.binary())}),
    "a column that moves the cursor": table({"\x1b[2J\x07": ["a"]}),
    "ten thousand columns": made_by(lambda: table({f"column {number}": ["a"] for number in range(10_000)})),
    "a text of two hundred megabytes in a few kilobytes": one_long_text(1, 200_000_000, use_dictionary=False),
    "a hole of half a gigabyte": as_hole(0.5),
    **_NOT_TEXTS,
}


def deep_folders(file: Path) -> None:
    """A text at the bottom of a thousand folders."""
    here = os.open(file.parent, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def ring_of_folders(file: Path) -> None:
    (file.parent / "round").symlink_to(file.parent)
    file.unlink()


def other_kinds(spoil: Spoil) -> Callable[[Path], None]:
    """Beside the file, which is as it was, another that is no file of text."""

    def add(file: Path) -> None:
        other = file.with_name(f"another{file.suffix}")
        other.write_bytes(file.read_bytes())
        spoil(other)

    return add


def text_cases() -> Iterator[Case]:
    for name, spoil in SETTINGS.items():
        yield Case(name, "settings", "run.toml", "train_by_settings", spoil)
    for name, spoil in TALKS.items():
        yield Case(name, "talks", "talk.json", "chat", spoil)
    for name, spoil in HARMLESS_TALKS.items():
        yield Case(name, "talks", "talk.json", "chat", spoil, is_harmless=True)
    for name, spoil in LINES.items():
        yield Case(name, "jsonl", "data.jsonl", "prepare", spoil)
    for name, spoil in TEXTS.items():
        yield Case(name, "text", "story.txt", "prepare", spoil)
    for name, spoil in TABLES.items():
        yield Case(name, "parquet", "stories.parquet", "prepare", spoil)
    yield Case("a dictionary of one long text", "parquet", "stories.parquet", "prepare",
               one_long_text(30, 1_000_000), is_harmless=True)  # fmt: skip
    yield Case("a thousand folders within each other", "text", "story.txt", "prepare_a_folder", deep_folders)
    yield Case("a ring of folders", "text", "story.txt", "prepare_a_folder", ring_of_folders)
    for name, spoil in _NOT_TEXTS.items():  # what is no file at all is passed over in a folder
        yield Case(f"beside it {name}", "text", "story.txt", "prepare_a_folder", other_kinds(spoil), is_harmless=True)
