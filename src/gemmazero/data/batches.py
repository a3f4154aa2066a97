"""Batches[n]: the tokens of step n, a pure function of seed and n."""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from gemmazero.data.batch import Batch, Bookmark, Passage
from gemmazero.data.shards import TokenShards
from gemmazero.errors import DataError

_READ_TOKENS = 2**24
_STARTS_AT_ONCE = 4096


class Batches:
    """Every batch of a run, by number. Each epoch shows each window of the split once, in an order of its own.

    A window is ``sequence_length`` + 1 tokens and shares its last one with its successor. Where they do not fill the
    split exactly, each epoch leaves out other tokens at the two ends. A batch may end one epoch and begin the next.
    With ``mask_documents`` a batch says where its documents are. Raises DataError for a split smaller than one window.
    """

    away = ""
    """Its files are always there."""

    def __init__(
        self,
        shards: TokenShards,
        *,
        batch_size: int,
        sequence_length: int,
        seed: int,
        mask_documents: bool = False,
    ) -> None:
        self.windows = (len(shards) - 1) // sequence_length
        """How many windows an epoch has."""
        if self.windows < 1:
            raise DataError(
                f'the {shards.split} split of "{shards.folder}" has {len(shards)} tokens, less than one window of '
                f"{sequence_length} + 1",
                f"--sequence-length {len(shards) - 1} at most" if len(shards) > 2 else "prepare more text",
            )
        self._shards = shards
        self._batch_size, self._sequence_length, self._seed = batch_size, sequence_length, seed
        self._end_id = shards.manifest.end_id
        self._mask_documents = mask_documents
        self._spare_tokens = (len(shards) - 1) % sequence_length
        self._starts_known: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, number: int) -> Batch:
        """Batch ``number`` of the run, 0 for the first; there is no last."""
        if number < 0:
            raise IndexError(f"batch {number}")
        windows = np.empty((self._batch_size, self._sequence_length + 1), dtype=np.int64)
        for row, start in enumerate(self._starts(number).tolist()):
            windows[row] = self._shards.read(start, start + self._sequence_length + 1)
        tokens = torch.from_numpy(windows)
        # Owned and aligned: a matrix product may round differently for a tensor that begins between two 16-byte lines.
        ids, targets = tokens[:, :-1].clone(), tokens[:, 1:].clone()
        return Batch.of(ids, targets, self._end_id if self._mask_documents else None)

    def starting_at(self, number: int, bookmark: Bookmark | None = None) -> Iterator[Passage]:  # noqa: ARG002
        """The batches from ``number`` on, which is all that it takes to find them."""
        for one in count(number):
            yield Passage(self[one], partial(self.documents, one))

    def close(self) -> None:
        """Nothing is ever waited for."""

    def documents(self, number: int) -> list[list[int]]:
        """For each window of batch ``number`` its first and its last document, counted from 0 in the split.

        It reads the split up to there: for a report, not for every step.
        """
        starts = self._starts(number).tolist()
        ends = [start + self._sequence_length for start in starts]  # of the last target
        places = sorted({*starts, *ends})
        counted, before, documents = 0, 0, {}
        for place in places:
            for start in range(before, place, _READ_TOKENS):
                counted += int((self._shards.read(start, min(start + _READ_TOKENS, place)) == self._end_id).sum())
            before, documents[place] = place, counted
        return [[documents[start], documents[end]] for start, end in zip(starts, ends, strict=True)]

    def _starts(self, number: int) -> NDArray[np.int64]:
        """Where in the split the windows of batch ``number`` begin, out of the endless sequence of epochs.

        They are found for many batches at once, the last of which are kept: a permutation of few costs as much.
        """
        together = max(1, min(_STARTS_AT_ONCE, self.windows) // self._batch_size)
        if number // together != self._starts_known[0]:
            first = number // together * together * self._batch_size
            self._starts_known = number // together, self._starts_of(first, together * self._batch_size)
        place = number % together * self._batch_size
        return self._starts_known[1][place : place + self._batch_size]

    def _starts_of(self, first: int, count: int) -> NDArray[np.int64]:
        places = np.arange(first, first + count)
        starts = np.empty_like(places)
        for epoch in np.unique(places // self.windows):
            inside = places // self.windows == epoch
            order = permute(places[inside] % self.windows, self.windows, f"order {self._seed} {epoch}")
            offset = self._offset(int(epoch))
            starts[inside] = order * self._sequence_length + offset
        return starts

    def _offset(self, epoch: int) -> int:
        """How many of the tokens that fill no window are left out at the beginning, the others at the end."""
        drawn = hashlib.blake2b(f"offset {self._seed} {epoch}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "little") % (self._spare_tokens + 1)


def permute(indices: NDArray[np.int64], size: int, key: str) -> NDArray[np.int64]:
    """Where a shuffle of 0 … ``size`` - 1 puts ``indices``: a bijection for every ``key``, in O(1) memory.

    A balanced Feistel network over the next even power of two; what falls outside is sent through it again until it
    falls inside (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """
    half_bits = max(((size - 1).bit_length() + 1) // 2, 2)
    round_keys = np.frombuffer(hashlib.blake2b(key.encode()).digest(), dtype="<u8")  # eight, as many as rounds
    places = _feistel(indices.astype(np.uint64), half_bits, round_keys)
    while (outside := places >= size).any():
        places[outside] = _feistel(places[outside], half_bits, round_keys)
    return places.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: int, round_keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64(2**half_bits - 1)
    left, right = values >> shift, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mixed(right ^ round_key) >> (np.uint64(64) - shift))
    return left << shift | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014): every bit of the input reaches every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def choose_windows(size: int, count: int, seed: int) -> list[int]:
    """``count`` of 0 … ``size`` - 1, sorted: the same for the same seed."""
    return sorted(int(index) for index in permute(np.arange(count), size, f"validation {seed}"))
