"""Weights and states that are not what their header says."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hostile.case import Case, Spoil, bytes_of
from hostile.json_cases import NOT_FILES, cut_in_half

Header = dict[str, Any]
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def with_header(change: Callable[[Header], Any]) -> Spoil:
    """The same file with another header: what ``change`` returns, or what it made of the one it is given."""

    def spoil(file: Path) -> None:
        data = file.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        changed = change(header)
        text = changed if isinstance(changed, bytes) else json.dumps(header if changed is None else changed).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return spoil


def with_length(length: int) -> Spoil:
    return lambda file: file.write_bytes(struct.pack("<Q", length) + file.read_bytes()[8:]) and None


def entry(key: str, value: Any, *, of: str = "") -> Spoil:
    """Another ``dtype``, ``shape`` or ``data_offsets`` of a tensor, by default of the last."""

    def change(header: Header) -> None:
        header[of or list(header)[-1]][key] = value

    return with_header(change)


def moved(start: int, end: int) -> Spoil:
    """The last tensor's place, moved by so much at both ends."""

    def change(header: Header) -> None:
        last = max(
            (value for name, value in header.items() if name != "__metadata__"), key=lambda value: value["data_offsets"]
        )
        last["data_offsets"] = [last["data_offsets"][0] + start, last["data_offsets"][1] + end]

    return with_header(change)


def all_at_the_beginning(header: Header) -> None:
    """Every tensor takes the same bytes."""
    for name, value in header.items():
        if name != "__metadata__":
            start, end = value["data_offsets"]
            value["data_offsets"] = [0, end - start]


def many_tensors(header: Header) -> None:
    header |= {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(50_000)}


def too_many_tensors(header: Header) -> None:
    header |= {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(200_000)}


def grown(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size + 10 * 2**30)


def claims_terabytes(file: Path) -> None:
    """One tensor of four terabytes, in a file with holes that is as large."""
    size = 2**42
    text = json.dumps({EMBEDDING: {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, size]}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    with file.open("r+b") as opened:
        opened.truncate(8 + len(text) + size)


HEADERS: dict[str, Spoil] = {
    "nothing": bytes_of(b""),
    "seven bytes": bytes_of(b"\x00" * 7),
    "eight zeros": bytes_of(b"\x00" * 8),
    "a pickle": bytes_of(b"\x80\x04\x95" + b"\x00" * 100),
    "a zip": bytes_of(b"PK\x03\x04" + b"\x00" * 100),
    "only zeros": bytes_of(b"\x00", times=100_000),
    "only ones": bytes_of(b"\xff", times=100_000),
    "a header of 2^64 - 1 bytes": with_length(2**64 - 1),
    "a header of 2^63 bytes": with_length(2**63),
    "a header of a terabyte": with_length(2**40),
    "a header of the file's size": with_length(10**6),
    "a header of one byte": with_length(1),
    "a header of no bytes": with_length(0),
    "a header that is a list": with_header(lambda _: []),
    "a header that is null": with_header(lambda _: b"null"),
    "a header of lists within lists": with_header(lambda _: b"[" * 100_000),
    "a header of twenty megabytes": with_header(lambda _: b'{"a": "' + b"x" * 20_000_000 + b'"}'),
    "a header of a million objects": with_header(lambda _: b"{" + b'"":{},' * 1_000_000 + b'"a":{}}'),
    "a header with a name given twice": with_header(
        lambda header: json.dumps(header).encode().replace(b"{", b'{"' + NORM.encode() + b'": {},', 1)
    ),
    "a header that is no UTF-8": with_header(lambda _: b'{"\xff": {}}'),
    "a name that is half a surrogate pair": with_header(lambda header: header | {"\ud800": header[list(header)[-1]]}),
    "fifty thousand more tensors": with_header(many_tensors),
    "two hundred thousand more tensors": with_header(too_many_tensors),
    "a tensor that is null": with_header(lambda header: header | {NORM: None}),
    "a tensor that is a list": with_header(lambda header: header | {NORM: []}),
    "a tensor without a shape": with_header(lambda header: header | {NORM: {"dtype": "F32", "data_offsets": [0, 0]}}),
    "a tensor with something more": entry("strides", [1]),
    "metadata that is a list": with_header(lambda header: header | {"__metadata__": []}),
    "metadata of numbers": with_header(lambda header: header | {"__metadata__": {"format": 1}}),
    "a dtype that is unknown": entry("dtype", "F1024"),
    "a dtype that is a number": entry("dtype", 32),
    "a dtype that is a list": entry("dtype", ["F32"]),
    "a dtype half as wide": entry("dtype", "F16"),
    "a dtype twice as wide": entry("dtype", "F64"),
    "a shape that is a number": entry("shape", 32),
    "a shape of nothing": entry("shape", []),
    "a shape with a negative size": entry("shape", [-32]),
    "a shape with two negative sizes": entry("shape", [-4, -8]),
    "a shape of fractions": entry("shape", [32.0]),
    "a shape of texts": entry("shape", ["32"]),
    "a shape of truths": entry("shape", [True]),
    "a shape whose product is 2^64 and a bit": entry("shape", [2**32, 2**32]),
    "a shape whose product wraps to the right size": entry("shape", [2**62 + 8, 4]),
    "a shape of sizes beyond 64 bits": entry("shape", [2**64 + 32]),
    "a shape of a number of 4000 digits": entry("shape", [10**4000]),
    "a shape of ten thousand ones": entry("shape", [1] * 10_000),
    "offsets that are three": entry("data_offsets", [0, 128, 256]),
    "offsets that run backwards": entry("data_offsets", [128, 0]),
    "offsets that are negative": entry("data_offsets", [-128, 0]),
    "offsets beyond 64 bits": entry("data_offsets", [2**64, 2**64 + 128]),
    "offsets that are texts": entry("data_offsets", ["0", "128"]),
    "offsets beyond the file": moved(10**9, 10**9),
    "offsets a byte further": moved(1, 1),
    "offsets that overlap": moved(-64, -64),
    "offsets that leave a gap": moved(4, 0),
    "all tensors in one place": with_header(all_at_the_beginning),
    "a byte less": lambda file: file.write_bytes(file.read_bytes()[:-1]) and None,
    "a byte more": lambda file: file.write_bytes(file.read_bytes() + b"x") and None,
    "ten gigabytes more": grown,
    "a tensor of terabytes": claims_terabytes,
    "cut in half": cut_in_half,
}


def with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Spoil:
    def spoil(file: Path) -> None:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return spoil


def renamed(old: str, new: str) -> Spoil:
    return with_tensors(lambda tensors: tensors.update({new: tensors.pop(old)}))


def as_dtype(name: str, dtype: torch.dtype) -> Spoil:
    return with_tensors(lambda tensors: tensors.update({name: tensors[name].to(dtype)}))


TENSORS: dict[str, Spoil] = {
    "no tensor": with_tensors(dict.clear),
    "a tensor missing": with_tensors(lambda tensors: tensors.__delitem__(NORM)),
    "a tensor more": with_tensors(lambda tensors: tensors.update(more=torch.zeros(3))),
    "a name with a path": renamed(NORM, "../../etc/passwd"),
    "a name with a NUL": renamed(NORM, "model.norm\0.weight"),
    "an empty name": renamed(NORM, ""),
    "a name of a hundred thousand characters": renamed(NORM, "x" * 100_000),
    "a name that moves the cursor": renamed(NORM, "\x1b[2J\x1b]0;owned\x07"),
    "a matrix turned round": with_tensors(
        lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].T.contiguous()})
    ),
    "a vector of no length": with_tensors(lambda tensors: tensors.update({NORM: torch.zeros(0)})),
    "a scalar": with_tensors(lambda tensors: tensors.update({NORM: torch.tensor(1.0)})),
    "a tensor of truths": as_dtype(NORM, torch.bool),
    "a tensor of whole numbers": as_dtype(NORM, torch.int64),
    "a tensor of eight bits": as_dtype(NORM, torch.float8_e4m3fn),
    "a head that is not the embedding": with_tensors(
        lambda tensors: tensors.update({"lm_head.weight": tensors[EMBEDDING] + 1})
    ),
    "a head of another shape": with_tensors(lambda tensors: tensors.update({"lm_head.weight": torch.zeros(2, 2)})),
    "a tensor under two names": with_tensors(
        lambda tensors: tensors.update({f"language_model.{NORM}": tensors[NORM].clone()})
    ),
}


def shard_named(name: Any) -> Spoil:
    """An index that says that a tensor lies in the file ``name``."""

    def spoil(file: Path) -> None:
        index = json.loads(file.read_bytes())
        index["weight_map"][NORM] = name
        file.write_text(json.dumps(index))

    return spoil


INDEXES: dict[str, Spoil] = {
    f"a shard called {str(name)[:40]!r}": shard_named(name)
    for name in (
        "../model/model.safetensors", "/etc/passwd", "/dev/zero", "..", ".", "", "sub/model.safetensors",
        "\0.safetensors", "absent.safetensors", "x" * 5000 + ".safetensors", "pytorch_model.bin", 7, None, ["a"],
        {"a": 1}, "a\\..\\b.safetensors", "～.safetensors",
    )
}  # fmt: skip


def tensor_cases() -> Iterator[Case]:
    for name, spoil in (HEADERS | TENSORS | NOT_FILES).items():
        yield Case(name, "model", "model.safetensors", "load", spoil)
    for name, spoil in INDEXES.items():
        yield Case(name, "sharded", "model.safetensors.index.json", "load_shards", spoil)
    for name in ("a header of a terabyte", "offsets that overlap", "a shape whose product wraps to the right size"):
        for part, file, by in (
            ("sharded", "model-00001-of-00002.safetensors", "load_shards"),
            ("model", "model.safetensors", "convert"),
            ("model", "model.safetensors", "train_from_a_model"),
        ):
            yield Case(name, part, file, by, HEADERS[name])
