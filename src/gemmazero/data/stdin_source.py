"""Standard input as a source: kept in a temporary file, because documents are read more than once."""

import hashlib
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator
from functools import partial
from io import BufferedReader, RawIOBase

from gemmazero.config import PrepareConfig
from gemmazero.data.compression import reading
from gemmazero.data.documents import BYTE_ORDER_MARK, Layout, Reader, Source, Splits, refuse_utf16
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
        whole = _Kept()
        digest = _filled(whole)
    separator = config.document_separator
    layout = Layout(config.text_column, None if separator is None else separator_bytes(separator))
    read = read_json_lines if separator is None and _begins_with_an_object(whole) else read_text
    splits = Splits(STDIN_NAME, partial(_documents, whole, read, layout))
    return Source(STDIN_NAME, f"sha256:{digest}", lambda: splits)


class _Kept:
    """A temporary file without a name. It goes with whoever reads it last, or with this process."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its finalizer
        weakref.finalize(self, self.file.close)

    def read(self, size: int, place: int) -> bytes:
        """At most ``size`` bytes from ``place`` on; none at the end."""
        return os.pread(self.file.fileno(), size, place)


def _filled(whole: _Kept) -> str:
    """Copy all of standard input; returns its SHA-256."""
    digest = hashlib.sha256()
    while chunk := sys.stdin.buffer.read(_CHUNK):
        whole.file.write(chunk)
        digest.update(chunk)
    whole.file.flush()
    if not whole.file.tell():
        raise DataError("nothing came on standard input", "gemmazero prepare - < stories.jsonl")
    return digest.hexdigest()


def _begins_with_an_object(whole: _Kept) -> bool:
    return whole.read(_BUFFER, 0).removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"{")


def _documents(whole: _Kept, read: Reader, layout: Layout) -> Iterator[str | None]:
    with reading(_WHERE), BufferedReader(_FromStart(whole), _BUFFER) as file:
        refuse_utf16(file, _WHERE)
        yield from read(file, _WHERE, layout)


class _FromStart(RawIOBase):
    """What is kept from its beginning, whoever else reads it, and wherever."""

    def __init__(self, whole: _Kept) -> None:
        self._whole, self._place = whole, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self._whole.read(len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
