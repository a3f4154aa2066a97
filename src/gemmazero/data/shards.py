"""TokenShards: token files and their manifest, read. The format is ``docs/data-folder.md``."""

import dataclasses
import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from gemmazero.data.manifest_check import is_manifest
from gemmazero.errors import DataError
from gemmazero.json_file import LARGEST_JSON, parse_json
from gemmazero.regular_file import leads_out, open_regular, read_bytes

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
MANIFEST = "manifest.json"

_READ_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """How much a split holds; ``text_bytes`` is its text in UTF-8, before tokenization."""

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything there is to know about a data folder: the contents of its ``manifest.json``.

    ``round_trip`` is the share of a sample of the documents that the tokenizer gives back unchanged. ``duplicates`` are
    the exact copies that were left out, ``validation_in_training`` the documents of the source's own validation split
    that stood in its training text too.
    """

    source: str
    subset: str | None
    revision: str | None
    options: Mapping[str, Any]
    tokenizer: str
    tokenizer_digest: str
    vocab_size: int
    end_id: int
    round_trip: float
    splits: Mapping[Split, SplitFacts]
    dropped_short: int
    dropped_invalid: int
    duplicates: int
    validation_in_training: int
    files: Mapping[str, FileFacts]
    format_version: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the token files: little-endian uint16 where the vocabulary fits, else uint32."""
        return token_dtype(self.vocab_size)

    @property
    def digest(self) -> str:
        """SHA-256 of all of this: equal for the same source prepared alike, whenever and wherever that was."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The contents of ``manifest.json``."""
        return dataclasses.asdict(self) | {"dtype": self.dtype.name}

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into ``folder``."""
        text = json.dumps(self.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_bytes(text.encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of the data folder ``folder``. Raises DataError where there is none or it cannot be used."""
        if not folder.exists():
            raise DataError(f'no such data folder: "{folder}"', f"gemmazero prepare SOURCE --out {folder}")
        try:
            record = parse_json(read_bytes(folder / MANIFEST, LARGEST_JSON))
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                f'"{folder}" is not a data folder: it has no {MANIFEST}',
                f"gemmazero prepare {folder} makes one of its text",
            ) from None
        except (OSError, ValueError) as error:
            raise _damaged(folder, f"{MANIFEST} cannot be read: {error}") from error
        return cls._from_json(record, folder)

    @classmethod
    def _from_json(cls, record: Any, folder: Path) -> Self:
        version = record.get("format_version") if isinstance(record, dict) else None
        if version is None:
            raise DataError(
                f'"{folder}" is not a data folder: its {MANIFEST} is of something else',
                "gemmazero prepare SOURCE --out DIR makes one",
            )
        if version != 1:
            raise DataError(
                f'"{folder}" has data format version "{version}", this GemmaZero reads 1',
                "pip install --upgrade gemmazero, or prepare the source again",
            )
        if not is_manifest(record) or record.pop("dtype") != token_dtype(record["vocab_size"]).name:
            raise _damaged(folder, f"{MANIFEST} does not describe a data folder")
        links = [name for name in (MANIFEST, *record["files"]) if (folder / name).is_symlink()]
        if foreign := [name for name in links if leads_out(folder / name, folder)]:
            raise _damaged(folder, f'"{foreign[0]}" is a link that leads out of it')
        record["splits"] = {split: SplitFacts(**record["splits"][split]) for split in SPLITS}
        record["files"] = {name: FileFacts(**facts) for name, facts in record["files"].items()}
        return cls(**record)

    def token_files(self, split: Split) -> list[str]:
        """The names of a split's token files, in order."""
        return sorted(name for name in self.files if split_of(name) == split)

    def verify_file(self, path: Path) -> None:
        """Compare a file of the data folder with its size and SHA-256 sum. Raises DataError where they differ."""
        expected = self.files.get(path.name)
        try:
            is_sound = expected and path.stat().st_size == expected.bytes and file_facts(path) == expected
        except OSError:
            is_sound = False
        if not is_sound:
            raise _damaged(path.parent, f'"{path.name}" is not what was written')


class TokenShards:
    """The tokens of one split of a data folder as one long, read-only array, mapped from its files.

    Opening compares the files' sizes with the manifest's; ``verify`` compares the contents.
    Raises DataError for a folder that is absent, foreign or damaged.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.folder = Path(folder)
        self.split = split
        self.manifest = Manifest.read(self.folder)
        if split not in SPLITS:
            raise DataError(f'no split "{split}" in "{folder}"', f"one of {', '.join(SPLITS)}")
        self._files = [self._mapped(name) for name in self.manifest.token_files(split)]
        self._ends = list(accumulate(len(file) for file in self._files))
        held = self._ends[-1] if self._files else 0
        if held != self.manifest.splits[split].tokens:
            raise _damaged(
                self.folder, f"{held} {split} tokens where {MANIFEST} counts {self.manifest.splits[split].tokens}"
            )

    def __len__(self) -> int:
        return self.manifest.splits[self.split].tokens

    @property
    def documents(self) -> int:
        """How many documents the split holds; each ends with the manifest's ``end_id``."""
        return self.manifest.splits[self.split].documents

    @property
    def text_bytes(self) -> int:
        """The size of the split's text in UTF-8, the measure of bits per byte."""
        return self.manifest.splits[self.split].text_bytes

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """A copy of the token ids from ``start`` up to ``stop``, uint16 or uint32, across files where need be.

        Raises DataError where one of them is beyond the vocabulary.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start} to {stop} of {len(self)}")
        ids = np.empty(stop - start, dtype=self.manifest.dtype)
        filled = 0
        index = bisect_right(self._ends, start)
        while filled < len(ids):
            file = self._files[index]
            offset = start + filled - (self._ends[index] - len(file))
            piece = file[offset : offset + len(ids) - filled]
            ids[filled : filled + len(piece)] = piece
            filled += len(piece)
            index += 1
        self._check(ids)
        return ids

    def verify(self) -> None:
        """Compare the split's files with the manifest's SHA-256 sums, and every id with the vocabulary's size."""
        for name, ids in zip(self.manifest.token_files(self.split), self._files, strict=True):
            self.manifest.verify_file(self.folder / name)
            for start in range(0, len(ids), _READ_BYTES):
                self._check(ids[start : start + _READ_BYTES])

    def _check(self, ids: NDArray[Any]) -> None:
        if len(ids) and int(ids.max()) >= self.manifest.vocab_size:
            raise _damaged(self.folder, f"its {self.split} tokens hold ids beyond the vocabulary")

    def _mapped(self, name: str) -> NDArray[Any]:
        path, size = self.folder / name, self.manifest.files[name].bytes
        try:
            with open_regular(path) as file:
                found = os.fstat(file.fileno()).st_size
                if found != size or size % self.manifest.dtype.itemsize or not size:
                    raise _damaged(self.folder, f'"{name}" has {found} bytes, not {size}')
                return np.asarray(np.memmap(file, dtype=self.manifest.dtype, mode="r"))  # plain arrays slice faster
        except OSError as error:
            raise _damaged(self.folder, f'"{name}" cannot be read: {error.strerror}') from error


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The little-endian type of token ids below ``vocab_size``: uint16 up to 65 536 ids, else uint32."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def file_facts(path: Path) -> FileFacts:
    """Size and SHA-256 of the regular file at ``path``. Raises OSError where there is none."""
    with open_regular(path) as file:
        return FileFacts(bytes=os.fstat(file.fileno()).st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def split_of(name: str) -> str | None:
    """The split whose token file this is; None for any other file."""
    match = re.fullmatch(r"(train|validation)-[0-9]{5}\.bin", name)
    return match.group(1) if match else None


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f'data folder "{folder}" is damaged: {what}', "gemmazero prepare … --overwrite writes it anew")
