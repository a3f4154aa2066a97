"""CSV → documents: commas, a header, a row a document; quoted fields may hold line breaks (RFC 4180)."""

import csv
from collections.abc import Iterator
from typing import BinaryIO

from gemmazero.data.documents import BYTE_ORDER_MARK, LARGEST_RECORD, Layout, if_unicode, no_column
from gemmazero.errors import DataError

_WRITE_AGAIN = "write it again with commas between fields, and quotes around text"


def read_csv(file: BinaryIO, where: str, layout: Layout) -> Iterator[str | None]:
    """The field under the column of each row, exactly as it stands; blank lines are none.

    Raises DataError for a row of more than ``LARGEST_RECORD`` bytes, of other fields than the header names, or with
    a quote that does not end.
    """
    csv.field_size_limit(LARGEST_RECORD)
    lines = _Lines(file, where)
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
        if layout.column not in header:
            raise no_column(layout.column, header, where)
        place = header.index(layout.column)
        lines.bytes_since_row = 0
        for row in rows:
            lines.bytes_since_row = 0
            if len(row) == len(header):
                yield if_unicode(row[place])
            elif row:
                what = f"the row that ends on line {rows.line_num} of {where} has {len(row)} fields, not {len(header)}"
                raise DataError(what, _WRITE_AGAIN)
    except csv.Error as error:
        why, hint = str(error), _WRITE_AGAIN
        if why.startswith("new-line character"):  # goes on about how Python opens files
            why, hint = (
                "a carriage return without a line feed, outside of quotes",
                r"tr '\r' '\n' makes line feeds of them",
            )
        raise DataError(f"line {rows.line_num} of {where} is not CSV: {why}", hint) from None


class _Lines:
    """The lines of a file, as long as a row is not too large. What is not UTF-8 becomes half surrogate pairs."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._is_first = True
        self.bytes_since_row = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LARGEST_RECORD + 1):
            self.bytes_since_row += len(line)
            if self.bytes_since_row > LARGEST_RECORD:
                hint = "a quote that does not end, or no line breaks? " + _WRITE_AGAIN
                raise DataError(f"a row of {self._where} has more than {LARGEST_RECORD} bytes", hint)
            if self._is_first:
                line, self._is_first = line.removeprefix(BYTE_ORDER_MARK), False
            yield line.decode("utf-8", "surrogateescape")
