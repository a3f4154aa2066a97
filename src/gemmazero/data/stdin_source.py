"""Standard input as a source: kept in a temporary file, because documents are read more than once."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from io import BufferedReader, RawIOBase
from typing import IO

from gemmazero.config import PrepareConfig
from gemmazero.data.compression import reading
from gemmazero.data.documents import BYTE_ORDER_MARK, Reader, Reading, Source, Splits
from gemmazero.data.json_reader import read_json_lines
from gemmazero.data.text_reader import read_text, separator_bytes
from gemmazero.errors import DataError

STDIN, STDIN_NAME = "-", "stdin"

_WHERE = "standard input"
_CHUNK = 2**20
_BUFFER = 2**17


def open_stdin(config: PrepareConfig) -> Source:
    """All of standard input, read to its end: JSON Lines where it begins with ``{``, else text.

    With a document separator it is text whatever it begins with. Raises DataError where there is nothing.
    """
    with reading(_WHERE):
        whole, digest = _kept()
    separator = config.document_separator
    asked = Reading(config.text_column, None if separator is None else separator_bytes(separator))
    read = read_json_lines if separator is None and _begins_with_an_object(whole) else read_text
    splits = Splits(STDIN_NAME, partial(_documents, whole, read, asked))
    return Source(STDIN_NAME, f"sha256:{digest}", lambda: splits)


def _kept() -> tuple[IO[bytes], str]:
    """A temporary file without a name, which goes with this process, and the SHA-256 of what it holds."""
    whole, digest = tempfile.TemporaryFile(), hashlib.sha256()  # noqa: SIM115 - it outlives this call
    while chunk := sys.stdin.buffer.read(_CHUNK):
        whole.write(chunk)
        digest.update(chunk)
    whole.flush()
    if not whole.tell():
        raise DataError("nothing came on standard input", "gemmazero prepare - < stories.jsonl")
    return whole, digest.hexdigest()


def _begins_with_an_object(whole: IO[bytes]) -> bool:
    return os.pread(whole.fileno(), _BUFFER, 0).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"{")


def _documents(whole: IO[bytes], read: Reader, asked: Reading) -> Iterator[str | None]:
    with reading(_WHERE), BufferedReader(_FromStart(whole), _BUFFER) as file:
        yield from read(file, _WHERE, asked)


class _FromStart(RawIOBase):
    """A file from its beginning, whoever else reads it, and wherever."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = os.pread(self._file.fileno(), len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
