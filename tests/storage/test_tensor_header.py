import json
import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gemmazero.errors import CheckpointError
from gemmazero.storage.tensor_header import LARGEST_HEADER, TensorFacts, check_header

DTYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
    torch.int32: "I32", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
}  # fmt: skip
SHAPES = st.lists(st.integers(0, 5), max_size=4)
USED_AGAIN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def library_s_view(path: Path) -> dict[str, TensorFacts] | None:
    """What safetensors itself says of the file; None where it refuses it."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return {name: TensorFacts(one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except SafetensorError:
        return None


def write(path: Path, header: Any, tensors: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    return path


@USED_AGAIN
@given(st.dictionaries(st.text("abc.", min_size=1), st.tuples(st.sampled_from(sorted(DTYPES, key=str)), SHAPES)))
def test_header_is_what_the_library_wrote(tmp_path: Path, described: dict[str, tuple[torch.dtype, list[int]]]) -> None:
    save_file({name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in described.items()}, tmp_path / "a")
    expected = {name: TensorFacts(DTYPES[dtype], tuple(shape)) for name, (dtype, shape) in described.items()}
    assert check_header(tmp_path / "a") == expected == library_s_view(tmp_path / "a")


@USED_AGAIN
@given(st.randoms(use_true_random=False))
def test_what_is_believed_is_what_the_library_reads(tmp_path: Path, chance: random.Random) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int8)}, tmp_path / "a", metadata={"k": "v"})
    data = bytearray((tmp_path / "a").read_bytes())
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) - 1)
        change = chance.choice(["flip", "digit", "insert", "delete", "truncate"])
        if change == "flip":
            data[place] ^= 1 << chance.randrange(8)
        elif change == "digit":
            digits = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
            data[chance.choice(digits or [0])] = ord(chance.choice("0123456789"))
        elif change == "insert":
            data.insert(place, chance.randrange(256))
        elif change == "delete":
            del data[place]
        elif len(data) > 20:
            del data[-chance.randrange(1, 10) :]
    (tmp_path / "a").write_bytes(data)
    try:
        believed = check_header(tmp_path / "a")
    except CheckpointError:
        return
    assert believed == library_s_view(tmp_path / "a")


@USED_AGAIN
@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_checkpoint_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with suppress(CheckpointError):
        check_header(tmp_path / "a")


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ([], "not a JSON object"),
        (b"{", "Expecting property name"),
        (b'{"a": 1, "a": 2}', '"a" is given twice'),
        ({"a": None}, 'the tensor "a" has no dtype, shape and data_offsets'),
        ({"a": ONE | {"more": 1}}, "has no dtype"),
        ({"a": ONE | {"dtype": "F7"}}, "unknown dtype"),
        ({"a": ONE | {"dtype": ["F32"]}}, "unknown dtype"),
        ({"a": ONE | {"shape": [2.0]}}, "no counts"),
        ({"a": ONE | {"shape": [True, 2]}}, "no counts"),
        ({"a": ONE | {"shape": [-1, -2]}}, "no counts"),
        ({"a": ONE | {"shape": [2**63]}}, "no counts"),
        ({"a": ONE | {"shape": [1] * 9}}, "no counts"),
        ({"a": ONE | {"data_offsets": [0, 8, 8]}}, "no counts"),
        ({"a": ONE | {"shape": [2**62 + 2, 4]}}, "takes 8 bytes, which is not what"),
        ({"a": ONE | {"data_offsets": [8, 0]}}, "takes -8 bytes"),
        ({"a": ONE | {"data_offsets": [4, 12]}}, "leave gaps, overlap"),
        ({"a": ONE, "b": ONE}, "leave gaps, overlap"),
        ({}, "end elsewhere than the file"),
        ({"a": ONE, "__metadata__": {"a": 1}}, "__metadata__ is not of texts"),
        ({"a": ONE, "__metadata__": []}, "__metadata__ is not of texts"),
    ],
)
def test_header_that_the_file_does_not_bear_out_is_refused(tmp_path: Path, header: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        check_header(write(tmp_path / "a", header, b"\0" * 8))


def test_empty_tensors_may_stand_anywhere(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0, 5]}
    header = {
        "a": empty | {"data_offsets": [8, 8]},
        "b": ONE,
        "c": empty | {"data_offsets": [0, 0]},
    }
    found = check_header(write(tmp_path / "a", header, b"\0" * 8))
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == ("F32", (0, 5))


@pytest.mark.parametrize("length", [9, 2**40, 2**63, 2**64 - 1])
def test_header_longer_than_the_file_is_not_read(tmp_path: Path, length: int) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<Q", length) + b"{}      ")
    with pytest.raises(CheckpointError, match=f"a header of {length} bytes in a file of 16"):
        check_header(tmp_path / "a")


def test_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(struct.pack("<Q", LARGEST_HEADER + 1))
        file.truncate(2**30)
    with pytest.raises(CheckpointError, match="a header of 8388609 bytes"):
        check_header(tmp_path / "a")


@pytest.mark.parametrize(("name", "said"), [("absent", "is missing"), (".", "Is a directory")])
def test_what_is_no_file_is_told(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as raised:
        check_header(tmp_path / name)
    assert raised.value.hint
