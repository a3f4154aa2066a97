"""Stream: batches of a source's documents as they arrive; shuffled, packed, and found again exactly.

The documents come in blocks, in each of which they change places by a keyed permutation: that is the shuffle buffer.
What a block holds follows from where it begins, so a few whole numbers say all that it takes to go on: where the block
begins, how many of its documents were packed, and how many tokens of the next one.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gemmazero.data.batch import Batch, Bookmark, Passage
from gemmazero.data.batches import permute
from gemmazero.data.patient_reader import PatientReader, Place
from gemmazero.data.read_ahead import ReadAhead
from gemmazero.data.shards import TokenShards
from gemmazero.data.sources import Documents
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import DataError

BLOCK_DOCUMENTS, BLOCK_BYTES = 10_000, 2**26
"""A block ends with the document that reaches one of these, or with the epoch; two of them are in memory."""
_DOCUMENTS_TOKENIZED_AT_ONCE = 64


@dataclass(frozen=True)
class _Mark:
    """Where a token stands: ``token`` of the document that is number ``index`` in the order of its block.

    ``epoch``, ``part`` and ``document`` are the block's place.
    """

    epoch: int = 0
    part: int = 0
    document: int = 0
    index: int = 0
    token: int = 0

    @property
    def block(self) -> Place:
        return Place(self.epoch, self.part, self.document)


BOOKMARK = frozenset({"batch", *(item.name for item in fields(_Mark))})
"""What a bookmark tells, in whole numbers."""


@dataclass(frozen=True)
class _Piece:
    """The tokens of a document from ``mark`` on, and the place of the document in the source."""

    mark: _Mark
    place: Place
    ids: NDArray[Any]

    def after(self, tokens: int) -> "_Piece":
        return replace(self, mark=replace(self.mark, token=self.mark.token + tokens), ids=self.ids[tokens:])


@dataclass(frozen=True)
class _Block:
    place: Place
    documents: list[tuple[Place, str]]


class Stream:
    """Batches of windows that follow each other: ``sequence_length`` + 1 tokens, the last one shared with the next.

    Every document is followed by the end-of-document id, and every epoch by the next one; nothing is left out. Batch
    ``n`` is a function of the source, the settings and ``n``; a bookmark only shortens the way to it.

    Args:
        parts: opens the source, as for PatientReader.
        tokenizer: of the run.
        held_out: digests of the documents that are not to be learned from, as ``document_digests`` gives them.
        batch_size: windows.
        sequence_length: tokens.
        seed: of the order.
        min_characters: shorter documents are left out, white space around them not counted.
        mask_documents: a batch is to say where its documents are.
    """

    def __init__(
        self,
        parts: Callable[[], Sequence[Documents]],
        tokenizer: Tokenizer,
        held_out: Collection[bytes],
        *,
        batch_size: int,
        sequence_length: int,
        seed: int,
        min_characters: int = 1,
        mask_documents: bool = False,
    ) -> None:
        self._reader = PatientReader(parts)
        self._tokenizer, self._held_out, self._seed = tokenizer, frozenset(held_out), seed
        self._shape, self._min_characters = (batch_size, sequence_length), min_characters
        self._end_id = tokenizer.end_id if mask_documents else None

    @property
    def away(self) -> str:
        """Why the source cannot be read at present; empty while it can."""
        return self._reader.away

    def close(self) -> None:
        """Wait for the source no more."""
        self._reader.close()

    def starting_at(self, number: int, bookmark: Bookmark | None) -> Iterator[Passage]:
        """The batches from ``number`` on; those between it and ``bookmark`` are read and passed over."""
        known = dict(bookmark or {"batch": 0})
        current, mark = known.pop("batch"), _Mark(**known)
        batch_size, length = self._shape
        size, held = batch_size * length, 0
        pieces: deque[_Piece] = deque()
        for piece in self._pieces(mark):
            pieces.append(piece)
            held += len(piece.ids)
            while held > size:
                taken, pieces = _cut(pieces, size)
                if current >= number:
                    yield self._passage(current, taken, pieces[0])
                current, held = current + 1, held - size

    def _passage(self, number: int, pieces: list[_Piece], following: _Piece) -> Passage:
        """The batch of all tokens of ``pieces``; the first token of ``following`` is its last target."""
        flat = np.concatenate([*(piece.ids for piece in pieces), following.ids[:1]]).astype(np.int64)
        ids, targets = torch.from_numpy(flat[:-1].copy()), torch.from_numpy(flat[1:].copy())
        return Passage(
            Batch.of(ids.view(self._shape), targets.view(self._shape), self._end_id),
            partial(_documents, pieces, self._shape),
            {"batch": number, **asdict(pieces[0].mark)},
            {"batch": number + 1, **asdict(following.mark)},
        )

    def _pieces(self, mark: _Mark) -> Iterator[_Piece]:
        """Every document from ``mark`` on. Raises DataError where there are none."""
        blocks = ReadAhead(self._blocks(mark.block), 1)
        last_epoch = mark.epoch
        while True:
            try:
                block = blocks.take()
            except StopIteration:
                return
            if block.place.epoch > last_epoch + 1:
                raise DataError("the source gives no document to train on", "--min-characters may be too high")
            for piece in self._pieces_of(block, mark if block.place == mark.block else _Mark(**asdict(block.place))):
                last_epoch = block.place.epoch
                yield piece

    def _pieces_of(self, block: _Block, first: _Mark) -> Iterator[_Piece]:
        """The documents of ``block`` that are to be learned from; those before ``first`` are not tokenized."""
        order = self._order(block)
        for start in range(first.index, len(order), _DOCUMENTS_TOKENIZED_AT_ONCE):
            some = order[start : start + _DOCUMENTS_TOKENIZED_AT_ONCE]
            for index, ids in enumerate(self._tokenized([text for _, text in some]), start):
                if digest(ids) not in self._held_out:
                    piece = _Piece(replace(first, index=index, token=0), order[index][0], ids)
                    yield piece.after(first.token) if index == first.index else piece

    def _order(self, block: _Block) -> list[tuple[Place, str]]:
        place, size = block.place, len(block.documents)
        key = f"stream {self._seed} {place.epoch} {place.part} {place.document}"
        return [block.documents[index] for index in permute(np.arange(size), size, key).tolist()] if size else []

    def _tokenized(self, texts: list[str]) -> list[NDArray[Any]]:
        """Each document's ids, the end-of-document id included."""
        ids = self._tokenizer.encode_documents(texts)
        return np.split(ids, np.flatnonzero(ids == self._tokenizer.end_id) + 1)[:-1]

    def _blocks(self, place: Place) -> Iterator[_Block]:
        """From ``place``, which begins one, on."""
        block, room = _Block(place, []), BLOCK_BYTES
        for here, text in self._reader.documents(place):
            if here.epoch > block.place.epoch or len(block.documents) == BLOCK_DOCUMENTS or room <= 0:
                yield block
                block, room = _Block(here, []), BLOCK_BYTES
            if text is not None and len(text.strip()) >= self._min_characters:
                block.documents.append((here, text))
                room -= len(text.encode())


def document_digests(shards: TokenShards) -> Iterator[bytes]:
    """The digest of each document of a split."""
    ids = shards.read(0, len(shards))
    for document in np.split(ids, np.flatnonzero(ids == shards.manifest.end_id) + 1)[:-1]:
        yield digest(document)


def digest(ids: NDArray[Any]) -> bytes:
    """What tells a document from all others, by its tokens and the end-of-document id."""
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def _cut(pieces: Iterable[_Piece], tokens: int) -> tuple[list[_Piece], deque[_Piece]]:
    """The first ``tokens`` tokens, and the others."""
    first, rest = [], deque(pieces)
    while tokens:
        piece = rest.popleft()
        first.append(replace(piece, ids=piece.ids[:tokens]))
        if tokens < len(piece.ids):
            rest.appendleft(piece.after(tokens))
        tokens -= len(first[-1].ids)
    return first, rest


def _documents(pieces: list[_Piece], shape: tuple[int, int]) -> list[list[list[int]]]:
    """For each window the documents in it: of each the part of the source, and how many documents stand before it."""
    windows: list[list[list[int]]] = [[] for _ in range(shape[0])]
    token = 0
    for piece in pieces:
        for window in range(token // shape[1], (token + len(piece.ids) - 1) // shape[1] + 1):
            windows[window].append([piece.place.part, piece.place.document])
        token += len(piece.ids)
    return windows
