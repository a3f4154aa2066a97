"""The header of a safetensors file: which tensors it says it holds, believed only where the file bears it out."""

import math
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from gemmazero.errors import CheckpointError
from gemmazero.json_file import LARGEST_JSON, parse_json
from gemmazero.regular_file import open_regular

LARGEST_HEADER = LARGEST_JSON  # bytes: some eighty thousand tensors
MOST_DIMENSIONS = 8
BYTES_AN_ELEMENT = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip

_COPY_AGAIN = "copy it again from where it came from"


class TensorFacts(NamedTuple):
    """What a header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def check_header(path: Path) -> dict[str, TensorFacts]:
    """The tensors of the safetensors file ``path`` by name, in the order of its header; no tensor is read.

    They fill the file exactly, one after another. Raises CheckpointError for anything else, whatever it claims, and
    never takes more memory than a header of ``LARGEST_HEADER`` bytes; a link is followed.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = parse_json(file.read(length))
        return _checked(header, size - 8 - length)
    except FileNotFoundError:
        raise CheckpointError(f'"{path}" is missing', _COPY_AGAIN) from None
    except OSError as error:
        raise CheckpointError(f'cannot read "{path}": {error.strerror or error}', _COPY_AGAIN) from error
    except ValueError as error:
        raise CheckpointError(f'"{path}" is damaged: {error}', _COPY_AGAIN) from error


def _checked(header: Any, size: int) -> dict[str, TensorFacts]:
    """Raises ValueError for what is no header of ``size`` bytes of tensors."""
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(type(note) is str for note in notes.values()):
        raise ValueError("its __metadata__ is not of texts")
    places = [_place(name, entry) for name, entry in header.items()]
    _require_contiguous(places, size)
    return {name: TensorFacts(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends. Raises ValueError where its entry is not one, or does not say one thing."""
    where = f'the tensor "{name[:200]}"'
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES_AN_ELEMENT:
        raise ValueError(f"{where} is of an unknown dtype")
    if not (_are_counts(shape, range(MOST_DIMENSIONS + 1)) and _are_counts(offsets, range(2, 3))):
        raise ValueError(f"{where} has a shape or data_offsets that are no counts")
    start, end = offsets
    if end - start != math.prod(shape) * BYTES_AN_ELEMENT[dtype]:
        raise ValueError(f"{where} takes {end - start} bytes, which is not what its shape and dtype take")
    return start, end


def _are_counts(values: Any, lengths: range) -> bool:
    """Whether this is a list, of one of these lengths, of whole numbers that 64 bits hold."""
    return (
        isinstance(values, list)
        and len(values) in lengths
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _require_contiguous(places: Iterable[tuple[int, int]], size: int) -> None:
    ordered = [(0, 0), *sorted(places), (size, size)]
    if any(before[1] != after[0] for before, after in pairwise(ordered)):
        raise ValueError("its tensors leave gaps, overlap, or end elsewhere than the file")
