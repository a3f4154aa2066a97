"""Documents: how they come, in splits, from a source, and what is no document."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, cast

from gemmazero.errors import DataError

Documents = Callable[[], Iterator[str | None]]
"""Reads a split from its beginning, each time it is called; None stands for a document that is not valid Unicode."""

BYTE_ORDER_MARK = codecs.BOM_UTF8
LARGEST_TEXT = 2**26  # bytes of one document in a file of text
LARGEST_RECORD = 2**24  # bytes of one line or record that is to be parsed
MOST_BRACKETS = 2**20  # of the objects and lists of a JSON record
_COLUMNS_TOLD, _LONGEST_NAME = 50, 100


@dataclass(frozen=True)
class Splits:
    """The documents of a source: its training text, and its own validation split where it has one."""

    name: str
    training: Documents
    validation: Documents | None = None


@dataclass(frozen=True)
class Source:
    """Where documents come from.

    ``name`` is the same on every machine: a Hub id, ``sample``, ``stdin``, or the last part of a path. ``revision``
    pins the content: a Hub commit, or the SHA-256 of standard input, or of local files and their names. ``load``
    downloads what is not here yet. ``passed_over`` is what stands among its files and is not read.
    """

    name: str
    revision: str | None
    load: Callable[[], Splits]
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the documents stand in a file: the text under ``column``, or what stands between two ``separator``."""

    column: str
    separator: bytes | None = None


Reader = Callable[[BinaryIO, str, Layout], Iterator[str | None]]
"""The documents of one open file; the text tells an error what is being read. Raises DataError."""


def decoded(data: bytes) -> str | None:
    """The text that UTF-8 spells, or None where it spells none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def refuse_utf16(file: BinaryIO, where: str) -> None:
    """Raises DataError where a file begins with the byte order mark of UTF-16: nothing in it is UTF-8."""
    if cast(BufferedReader, file).peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{where} is written in UTF-16, not in UTF-8", "iconv -f utf-16 -t utf-8 converts it")


def if_unicode(text: str) -> str | None:
    """``text``, or None where it holds a half of a surrogate pair: JSON can spell one, and no UTF-8 can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return text


def no_column(column: str, columns: list[str], where: str) -> DataError:
    """The error for a column that is not there; it lists those that are."""
    names = ", ".join(name[:_LONGEST_NAME] for name in columns[:_COLUMNS_TOLD])
    hint = f"--text-column is one of {names}" if names else "it has no columns: write one with a header"
    return DataError(f'no column "{column}" in {where}', hint)
