"""Raw token ids, as nanoGPT writes them → the documents that they spell, for the tokenizer that made them."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import DataError

MOST_IDS = 2**22  # of one document

_BYTES_A_READ = 2**20
_FEW = 8  # bytes in which nothing is seen


def read_tokens(file: BinaryIO, where: str, tokenizer: Tokenizer) -> Iterator[str | None]:
    """The text of the ids up to each end-of-document id, and of those after the last.

    Ids are little-endian, two bytes each where the vocabulary has at most 65 536 of them, else four; four, too, where
    every second of the first pairs of bytes is zero. Ids that spell no valid UTF-8 are None. Raises DataError for an
    id that the tokenizer never gives to text, and for a document of more than ``MOST_IDS``.
    """
    dtype = tokenizer.dtype
    never = np.array(sorted(tokenizer.control_ids - {tokenizer.end_id}), np.int64)
    waiting = np.empty(0, np.int64)
    data = file.read(_BYTES_A_READ)
    if dtype.itemsize == 2 and len(data) % 4 == 0 and len(data) > _FEW and not np.frombuffer(data, "<u2")[1::2].any():
        dtype = np.dtype("<u4")
    while data:
        if len(data) % dtype.itemsize:
            raise DataError(f"{where} ends within an id of {dtype.itemsize} bytes", "copy it again from where it was")
        ids = np.frombuffer(data, dtype).astype(np.int64)
        _check(ids, never, tokenizer, where)
        *whole, rest = np.split(ids, np.flatnonzero(ids == tokenizer.end_id) + 1)
        for document in whole:
            yield _text(np.concatenate([waiting, document[:-1]]), tokenizer)
            waiting = waiting[:0]
        waiting = np.concatenate([waiting, rest])
        if len(waiting) > MOST_IDS:
            what = f"{where} has no end-of-document id ({tokenizer.end_id}) among {MOST_IDS} ids"
            raise DataError(what, "name the tokenizer that made them, or write that id after every document")
        data = file.read(_BYTES_A_READ)
    if len(waiting):
        yield _text(waiting, tokenizer)


def _check(ids: NDArray[np.int64], never: NDArray[np.int64], tokenizer: Tokenizer, where: str) -> None:
    hint = f'was it "{tokenizer.name}" that made them? --tokenizer names another'
    if ids.max() >= tokenizer.vocab_size:
        what = f"{where} holds the id {ids.max()}, and the tokenizer has {tokenizer.vocab_size}"
        raise DataError(what, hint)
    found = ids[np.isin(ids, never)]
    if len(found):
        raise DataError(f'{where} holds the id {found[0]}, "{tokenizer.token(int(found[0]))}", which is no text', hint)


def _text(ids: NDArray[np.int64], tokenizer: Tokenizer) -> str | None:
    """What ``ids`` spell; where that is not valid UTF-8, the replacement characters spell other ids, and it is None."""
    listed = ids.tolist()
    text = tokenizer.decode(listed)
    return None if "\ufffd" in text and tokenizer.encode(text) != listed else text
