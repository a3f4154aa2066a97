"""Plain text → documents: a file is one, or what stands between two separators is."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from gemmazero.data.documents import BYTE_ORDER_MARK, LARGEST_TEXT, Layout, decoded
from gemmazero.errors import DataError, UsageError

_CHUNK = 2**20
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
_SEPARATE = r"--document-separator says where a document ends: '<|endoftext|>', or '\n\n' for a blank line"


def read_text(file: BinaryIO, where: str, layout: Layout) -> Iterator[str | None]:
    """The whole file as it stands, or the texts between separators without the line breaks around them.

    A separator of line feeds alone finds them also where they follow carriage returns. A byte order mark is no text.
    Memory is bounded by ``LARGEST_TEXT``; raises DataError for a larger document.
    """
    if layout.separator is None:
        yield decoded(_limited(file.read(LARGEST_TEXT + 1), where).removeprefix(BYTE_ORDER_MARK))
        return
    line_feeds = not layout.separator.strip(b"\n")
    pattern = re.compile(rb"(?:\r?\n)" * len(layout.separator) if line_feeds else re.escape(layout.separator))
    rest = file.read(_CHUNK).removeprefix(BYTE_ORDER_MARK)
    more = rest
    while more:
        *whole, rest = pattern.split(rest)
        yield from (decoded(_limited(text, where).strip(b"\r\n")) for text in whole)
        more = file.read(max(_CHUNK, len(_limited(rest, where)) // 4))
        rest += more
    if last := rest.strip(b"\r\n"):
        yield decoded(last)


def separator_bytes(option: str) -> bytes:
    r"""The bytes that ``--document-separator`` means: ``\n``, ``\r``, ``\t``, ``\0``, ``\xHH`` and ``\\`` are escapes.

    Raises UsageError for any other backslash, and for what is not valid Unicode.
    """

    def unescaped(match: re.Match[str]) -> str:
        code = match[1]
        if code.startswith("x") and len(code) == 3:
            return chr(int(code[1:], 16))
        if code not in _ESCAPED:
            raise UsageError(f'--document-separator has an unknown escape: "{match[0]}"', r"\\ is a backslash")
        return _ESCAPED[code]

    try:
        return _ESCAPE.sub(unescaped, option).encode()
    except UnicodeEncodeError:
        raise UsageError("--document-separator is not valid Unicode", _SEPARATE) from None


def _limited(text: bytes, where: str) -> bytes:
    if len(text) > LARGEST_TEXT:
        raise DataError(f"a document in {where} has more than {LARGEST_TEXT} bytes", _SEPARATE)
    return text
