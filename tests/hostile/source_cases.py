"""Other files of documents: CSV, JSON, what is packed, ids."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow

from hostile.case import Case, Spoil, bytes_of, made_by
from hostile.json_cases import NOT_FILES, as_hole, cut_in_half

_NOT_TEXTS = {  # what is large is read, for as long as that takes
    name: spoil for name, spoil in NOT_FILES.items() if name not in ("a folder", "a hole of ten gigabytes")
}
_MANY = 2_000_000

ROWS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "a header alone": bytes_of(b"id,text\n"),
    "no text": bytes_of(b"id,content\n1,a\n"),
    "a column that moves the cursor": bytes_of(b"\x1b[2J\x07\n1\n"),
    "a column that moves the cursor twice": bytes_of(b"text,\x1b[2J\x07\n1\n"),
    "no UTF-8": bytes_of(b"id,text\n" + b"1,\xff\n" * 3),
    "UTF-16": bytes_of("id,text\n1,a\n".encode("utf-16")),
    "a row of too many fields": bytes_of(b"id,text\n1,once, upon\n"),
    "a row of too few fields": bytes_of(b"id,text\n1\n"),
    "a quote that does not end": bytes_of(b'id,text\n1,"once\n2,upon\n'),
    "a quote that does not end for very many lines": made_by(
        lambda: bytes_of(b'id,text\n1,"', end=b"once\n" * 10_000_000)),
    "a quote in the middle": bytes_of(b'id,text\n1,"once" upon\n'),
    "old line breaks": bytes_of(b"id,text\r1,a\r2,b\r"),
    "a field of twenty megabytes": made_by(lambda: bytes_of(b"id,text\n1," + b"x" * 20_000_000 + b"\n")),
    "a row of twenty million fields": made_by(lambda: bytes_of(b"id,text\n", end=b"," * 20_000_000)),
    "a row of very many quoted line breaks": made_by(
        lambda: bytes_of(b"id,text\n", end=b'"\n",' * 10_000_000)),
    "a header of five million columns": bytes_of(b"x,", times=5_000_000),
    "a hundred megabytes of zeros": bytes_of(b"\x00", times=100_000_000),
    "a hole of half a gigabyte": as_hole(0.5),
} | _NOT_TEXTS  # fmt: skip

LISTS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "an empty list": bytes_of(b"[]"),
    "a list without an end": bytes_of(b'["a", "b"'),
    "a text without an end": bytes_of(b'["a'),
    "half surrogate pairs": bytes_of(b'["\\ud800", "\\udc00"]'),
    "no UTF-8": bytes_of(b'["\xff", "\xfe"]'),
    "UTF-16": bytes_of('["a"]'.encode("utf-16")),
    "numbers": bytes_of(b"[1, 2]"),
    "a number": bytes_of(b"1"),
    "a number of 5000 digits": bytes_of(b'[{"text": "a", "n": ' + b"9" * 5000 + b"}]"),
    "lists within lists": bytes_of(b"[" * 200_000),
    "objects within objects": bytes_of(b'{"text":' * 200_000),
    "no text": bytes_of(b'[{"content": "a"}]'),
    "columns of rows": bytes_of(b'{"text": {"0": "a"}}'),
    "a column of numbers": bytes_of(b'{"text": [1, 2]}'),
    "two million empty objects in a record": made_by(
        lambda: bytes_of(b'[{"text": "a", "n": [', end=b"{}," * _MANY + b"{}]}]")),
    "two million objects of one in a record": made_by(
        lambda: bytes_of(b'[{"text": "a", "n": [', end=b'{"":0},' * _MANY + b"0]}]")),
    "ten million numbers in a record": made_by(
        lambda: bytes_of(b'[{"text": "a", "n": [', end=b"1.5," * 10_000_000 + b"0]}]")),
    "a text of twenty megabytes": made_by(lambda: bytes_of(b'["' + b"x" * 20_000_000 + b'"]')),
    "two million columns": made_by(lambda: bytes_of(json.dumps({f"k{n}": 1 for n in range(_MANY)}).encode())),
    "a zip": bytes_of(b"PK\x03\x04" + b"\x00" * 1000),
    "a hole of half a gigabyte": as_hole(0.5),
} | _NOT_TEXTS  # fmt: skip


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def flipped(place: int) -> Spoil:
    def spoil(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[place % len(data)] ^= 0xFF
        file.write_bytes(data)

    return spoil


def with_end(end: bytes) -> Spoil:
    return lambda file: file.write_bytes(file.read_bytes() + end) and None


def packed(pack: Callable[[bytes], bytes]) -> dict[str, Spoil]:
    """What is packed, and is spoilt before or afterwards."""
    return {
        "nothing": bytes_of(b""),
        "nothing, packed": made_by(lambda: bytes_of(pack(b""))),
        "not packed": bytes_of(b'{"text": "a"}\n'),
        "cut in half": cut_in_half,
        "the last byte is missing": lambda file: file.write_bytes(file.read_bytes()[:-1]) and None,
        "another magic": flipped(0),
        "garbage behind it": with_end(b"more"),
        "packed twice": made_by(lambda: bytes_of(pack(pack(b'{"text": "a"}\n')))),
        "half a gigabyte of zeros": made_by(lambda: bytes_of(pack(bytes(2**24)), times=32)),
        "half a gigabyte of one text": made_by(lambda: bytes_of(pack(b'{"text": "'), end=pack(b"x" * 2**24) * 32)),
        "half a gigabyte of empty objects": made_by(lambda: bytes_of(pack(b'{"n": ['), end=pack(b"{}," * 2**22) * 40)),
        **_NOT_TEXTS,
    }


GZIPPED: dict[str, Spoil] = packed(lambda data: gzip.compress(data, 1)) | {
    "a sum that does not fit": flipped(-8),
    "a length that does not fit": flipped(-1),
}
ZSTANDARD: dict[str, Spoil] = packed(zstd) | {
    "a frame that needs two gigabytes": bytes_of(b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x01\x00\x00"),
    "a frame to skip of four gigabytes": bytes_of(b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + b"x" * 100),
}

IDS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "a byte": bytes_of(b"\x00"),
    "an odd byte": with_end(b"x"),
    "ids beyond the vocabulary": bytes_of(b"\xff" * 1000),
    "an id beyond the vocabulary": with_end(b"\x01\x01"),
    "ends alone": bytes_of(b"\x00\x01", times=1000),
    "ids that spell no text": bytes_of(b"\xff\x00\xfe\x00\x00\x01"),
    "a document of fifty million ids": bytes_of(b"a\x00", times=50_000_000),
    "a hole of half a gigabyte": as_hole(0.5),
    "a pickle": bytes_of(b"\x80\x04\x95" + b"\x00" * 101),
    "a text": bytes_of(b"Once upon a time."),
    "the header of another program": bytes_of((20240520).to_bytes(4, "little") + b"\x01\x00\x00\x00" * 255),
} | _NOT_TEXTS  # fmt: skip

PACKED_TEXTS: dict[str, Spoil] = {
    "half a gigabyte of one letter": made_by(lambda: bytes_of(gzip.compress(b"x" * 2**24, 1), times=32)),
    "a member that is cut": cut_in_half,
}


def source_cases() -> Iterator[Case]:
    kinds = {
        "csv/stories.csv": ROWS,
        "json/stories.json": LISTS,
        "gzip/stories.jsonl.gz": GZIPPED,
        "zstd/stories.jsonl.zst": ZSTANDARD,
        "ids/train.bin": IDS,
        "packed/story.txt.gz": PACKED_TEXTS,
    }
    for place, spoils in kinds.items():
        part, file = place.split("/")
        for name, spoil in spoils.items():
            yield Case(name, part, file, "prepare", spoil)
