"""A file's bytes as they were before gzip or zstd, as a stream: nothing is ever unpacked in memory."""

import errno
import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO, cast

from gemmazero.errors import DataError
from gemmazero.regular_file import open_regular

COMPRESSIONS = (".gz", ".zst")

_CHUNK = 2**20
_UNSUSPICIOUS, _LARGEST_EXPANSION = 2**26, 100  # bytes unpacked, and how many times the packed ones


@contextmanager
def opened(path: Path, *, seekable: bool = False) -> Iterator[BinaryIO]:
    """Open a regular file for reading, unpacked where its name ends with one of ``COMPRESSIONS``.

    Args:
        path: the file.
        seekable: whether any place must be within reach; what is packed is then unpacked into a temporary file.

    Whatever stops the reading inside is DataError: no such file, a pipe, a damaged or truncated file.
    """
    with reading(f'"{path}"'), open_regular(path) as file, _unpacked(file, path.suffix.lower()) as stream:
        if not seekable or stream is file:
            yield stream
            return
        with tempfile.TemporaryFile() as whole:
            _unpack(stream, whole, os.fstat(file.fileno()).st_size)
            yield cast(BinaryIO, whole)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """What the operating system or a decompressor raises inside is DataError."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise DataError(f"cannot read {where}: {error}", "copy it again from where it came from") from error
    except OSError as error:  # gzip's and Arrow's own, too
        hint = "check the path and its rights" if error.strerror else "copy it again from where it came from"
        if error.errno == errno.ENOSPC:
            hint = "free some, or set TMPDIR to a folder with more room"
        raise DataError(f"cannot read {where}: {error.strerror or error}", hint) from error


def most_unpacked(packed: int) -> int:
    """The most bytes that so many packed ones become, where they are text."""
    return max(_UNSUSPICIOUS, _LARGEST_EXPANSION * packed)


@contextmanager
def _unpacked(file: BufferedReader, ending: str) -> Iterator[BinaryIO]:
    if ending == ".gz":
        with gzip.GzipFile(fileobj=file) as stream:
            yield cast(BinaryIO, stream)
    elif ending == ".zst":
        import pyarrow

        with pyarrow.CompressedInputStream(file, "zstd") as stream, BufferedReader(stream, _CHUNK) as buffered:
            yield buffered
    else:
        yield file


def _unpack(stream: BinaryIO, whole: IO[bytes], packed: int) -> None:
    limit = most_unpacked(packed)
    while chunk := stream.read(_CHUNK):
        if whole.tell() + len(chunk) > limit:
            raise OSError(f"it grows from {packed} to more than {limit} bytes")
        whole.write(chunk)
    whole.seek(0)
