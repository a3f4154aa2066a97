"""JSON → documents: a record a line, or one list of records, read a record at a time within limits."""

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

import orjson

from gemmazero.data.documents import (
    BYTE_ORDER_MARK,
    LARGEST_RECORD,
    MOST_BRACKETS,
    Layout,
    decoded,
    if_unicode,
    no_column,
)
from gemmazero.errors import DataError

_CHUNK = 2**16
_NO_SPACE = re.compile(r"[^ \t\r\n]")
_KINDS = {dict: "an object", list: "a list", bool: "true or false"}


def read_json_lines(file: BinaryIO, where: str, layout: Layout) -> Iterator[str | None]:
    """The text under the column of the object on each line. A byte order mark and blank lines are none.

    Raises DataError for any other line.
    """
    for number, line in enumerate(iter(partial(file.readline, LARGEST_RECORD + 1), b""), 1):
        if len(line) > LARGEST_RECORD or (
            len(line) > MOST_BRACKETS and line.count(b"[") + line.count(b"{") > MOST_BRACKETS
        ):
            raise DataError(f"line {number} of {where} holds too much", "put each document on a line of its own")
        document = _text_at_once(line, layout.column)
        if document is not None:
            yield document
            continue
        text = decoded(line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line)
        if text is None:
            yield None
        elif text.strip():
            yield _text_of_line(text, layout.column, f"line {number} of {where}")


def read_json(file: BinaryIO, where: str, layout: Layout) -> Iterator[str | None]:
    """The texts of a list of objects or of texts, of objects one after another, or of one object of columns.

    Of an object it is the text under the column; of one that is no item of a list it may be a list of texts. Bytes
    that are not UTF-8 spoil the document that they are in. Raises DataError for all else, and for an object outside
    of a list, or an item of one, of more than ``LARGEST_RECORD`` characters.
    """
    values = _Values(file, where)
    while values.next() is not None:
        if values.next() == "[":
            for number, item in enumerate(values.items(), 1):
                yield _text(item, layout.column, f"item {number} of {where}")
        else:
            value = values.take()
            column = value.get(layout.column) if isinstance(value, dict) else None
            if isinstance(column, list):
                yield from (_text(text, layout.column, where) for text in column)
            else:
                yield _text(value, layout.column, where)


class _Values:
    """JSON values one after another, or within a list, each taken off the file as it is asked for."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._text, self._place, self._let_go = "", 0, 0

    def next(self) -> str | None:
        """The character that comes next, white space passed over; None at the end."""
        while not (found := _NO_SPACE.search(self._text, self._place)):
            self._place = len(self._text)
            if not self._read_on():
                return None
        self._place = found.start()
        return found[0]

    def items(self) -> Iterator[Any]:
        """The items of the list that comes next."""
        self._skip("[")
        if self.next() != "]":
            yield self.take()
        while self.next() != "]":
            self._skip(",")
            yield self.take()
        self._skip("]")

    def take(self) -> Any:
        """The value that comes next."""
        self.next()
        while True:
            try:
                value, self._place = _DECODER.raw_decode(self._text, self._place)
                return value
            except json.JSONDecodeError as error:
                no_json = self._no_json(error.msg.removesuffix(" starting at"), error.pos)  # places move as it reads on
                if not self._read_on():
                    raise no_json from None
            except (ValueError, RecursionError) as error:  # a number of too many digits, lists within lists
                raise self._no_json(error, self._place) from None

    def _skip(self, character: str) -> None:
        if self.next() != character:
            raise self._no_json(f'"{character}" is missing', self._place)
        self._place += 1

    def _read_on(self) -> bool:
        """Whether there was more: as much again as is waiting, so that a long value is not tried too often."""
        waiting = len(self._text) - self._place
        data = self._file.read(max(_CHUNK, min(waiting, LARGEST_RECORD - waiting)))
        more = self._decode(data, not data)
        self._let_go += self._place
        self._text, self._place = self._text[self._place :] + more, 0
        if waiting > LARGEST_RECORD or self._text.count("[") + self._text.count("{") > MOST_BRACKETS:
            hint = "write a list of objects, or JSON Lines: an object a line in a .jsonl file"
            raise DataError(f"a part of {self._where} holds too much to be read at once", hint)
        return bool(data or more)

    def _no_json(self, why: object, place: int) -> DataError:
        what = f"{self._where} is not JSON: {why}, character {self._let_go + place + 1}"
        return DataError(what, "copy it again from where it came from")


_DECODER = json.JSONDecoder()


def _text_at_once(line: bytes, column: str) -> str | None:
    """The text of a line that is as it should be, twice as fast; None where it takes a closer look."""
    try:
        text = orjson.loads(line)[column]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) else None


def _text_of_line(line: str, column: str, where: str) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", "one JSON object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object", f'one a line, such as {{"{column}": "Once upon a time"}}')
    return _text(record, column, where)


def _text(record: Any, column: str, where: str) -> str | None:
    """The text of an object, null counting as empty, or the text that ``record`` itself is."""
    if isinstance(record, dict) and column not in record:
        raise no_column(column, list(record), where)
    text = record[column] if isinstance(record, dict) else record
    text = "" if text is None else text
    if not isinstance(text, str):
        kind = _KINDS.get(type(text), "a number")
        raise DataError(f'"{column}" in {where} is not text: {kind}', "--text-column names another")
    return if_unicode(text)
