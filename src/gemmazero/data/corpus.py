"""Reading: the documents of a source that are kept, each on its side, and what became of the others."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from gemmazero.config import PrepareConfig
from gemmazero.data.seen import DIGEST_BYTES, Digests, Seen
from gemmazero.data.shards import Split
from gemmazero.data.sources import Documents, Splits
from gemmazero.errors import DataError

BLOCK_BYTES, BLOCK_DOCUMENTS = 2**20, 2**12
_HASHES = 2**64

_Choice = Callable[[Digests], NDArray[np.bool_]]  # which documents to keep


@dataclass(frozen=True)
class Block:
    """Documents that follow each other in the source, those of each side in their order, and their size in UTF-8."""

    texts: dict[Split, list[str]]
    text_bytes: dict[Split, int]


@dataclass(frozen=True)
class _Stretch:
    """Documents that may be kept; ``digests`` say which are the same, and on which side each belongs."""

    texts: list[str]
    sizes: list[int]
    digests: Digests

    def of(self, mask: NDArray[np.bool_]) -> "_Stretch":
        chosen = mask.tolist()
        return _Stretch(list(compress(self.texts, chosen)), list(compress(self.sizes, chosen)), self.digests[mask])

    @property
    def positions(self) -> NDArray[np.uint64]:
        """Seeded places of the texts in [0, 2**64), uniform and independent of all others."""
        octets = np.frombuffer(self.digests.tobytes(), np.uint8).reshape(-1, DIGEST_BYTES)
        return np.ascontiguousarray(octets[:, :8]).view("<u8")[:, 0]


def readings(splits: Splits, config: PrepareConfig, held_out_below: int | None) -> Iterator["Reading"]:
    """The source to be read once, and again where that left one side empty: of the last one all is right.

    The blocks of each are to be taken to their end. The arguments are those of ``Reading``.
    """
    while True:
        reading = Reading(splits, config, held_out_below)
        yield reading
        if reading.settled == reading.held_out_below:
            return
        held_out_below = reading.settled


class Reading:
    """A source read once, from its first document to its last. The counts are complete when ``blocks`` has ended.

    A document is on the side of ``held_out_below``, a place in the order of seeded hashes: the same wherever it
    stands and in whatever company. Where the source has a validation split of its own, that is taken whole, and a
    training document that stands in it too is left out, so that no copies are ever on both sides.

    Args:
        splits: the source.
        config: what is kept of it.
        held_out_below: the hash below which a document is held out; by default the share that ``config`` says.
    """

    def __init__(self, splits: Splits, config: PrepareConfig, held_out_below: int | None = None) -> None:
        self.short = 0
        self.invalid = 0
        self.duplicates = 0
        self.validation_in_training = 0
        share = 0.0 if splits.validation else config.validation_fraction
        self.held_out_below = int(share * _HASHES) if held_out_below is None else held_out_below
        self._splits, self._config, self._is_divided = splits, config, share > 0
        self._salt = config.seed.to_bytes(8, "little")
        self._training_documents = 0
        self._smallest, self._largest = _HASHES, -1

    @property
    def settled(self) -> int:
        """What ``held_out_below`` should have been: two different documents leave no side empty."""
        if not self._is_divided or self._training_documents < 2:
            return self.held_out_below
        return min(max(self.held_out_below, self._smallest + 1), self._largest)

    def blocks(self) -> Iterator[Block]:
        """All that is kept: a validation split of the source's own first, then the rest.

        A lone document is divided by position: its end is held out. Raises DataError where no training text is left.
        """
        held_out = Seen()
        if self._splits.validation:
            for stretch in self._kept(self._splits.validation, self._of_validation(held_out)):
                yield _block(stretch, np.ones(len(stretch.texts), bool))
        first: list[_Stretch] = []  # until a second document shows that its first is not alone
        for stretch in self._kept(self._splits.training, self._of_training(held_out)):
            self._training_documents += len(stretch.texts)
            if self._is_divided:
                self._smallest = min(self._smallest, int(stretch.positions.min()))
                self._largest = max(self._largest, int(stretch.positions.max()))
            if self._training_documents == 1 and self._is_divided:
                first.append(stretch)
                continue
            for whole in (*first, stretch):
                yield _block(whole, whole.positions < self.held_out_below)
            first.clear()
        for stretch in first:
            yield _cut(stretch.texts[0], self._config.validation_fraction)
        if not self._training_documents:
            raise self._nothing_left()

    def _of_validation(self, held_out: Seen) -> _Choice:
        """All of them become known as held out; each is kept once, its copies where they are asked for."""
        return lambda digests: held_out.add(digests) | self._config.keep_duplicates

    def _of_training(self, held_out: Seen) -> _Choice:
        """Those that are not in the source's own validation split; likewise. Copies that are kept cost no memory."""
        seen, repeated = Seen(), Seen()

        def choose(digests: Digests) -> NDArray[np.bool_]:
            is_held_out = held_out.holds(digests)
            self.validation_in_training += int(repeated.add(digests[is_held_out]).sum())
            if self._config.keep_duplicates:
                return ~is_held_out
            return seen.add(digests) & ~is_held_out

        return choose

    def _kept(self, documents: Documents, choose: _Choice) -> Iterator[_Stretch]:
        """The first ``max_documents`` documents that are valid, long enough, and chosen."""
        room, source = self._config.max_documents or _HASHES, iter(documents())
        while room and (stretch := self._next(source, min(room, BLOCK_DOCUMENTS))):
            kept = stretch.of(choose(stretch.digests))
            self.duplicates += len(stretch.texts) - len(kept.texts)
            room -= len(kept.texts)
            if kept.texts:
                yield kept

    def _next(self, source: Iterator[str | None], most: int) -> _Stretch | None:
        """Up to ``most`` valid documents that are long enough, white space around them not counted."""
        least, salt = self._config.min_characters, self._salt
        texts: list[str] = []
        sizes: list[int] = []
        digests: list[bytes] = []
        room = BLOCK_BYTES
        for text in source:
            if text is None:
                self.invalid += 1
            elif len(text.strip()) < least:
                self.short += 1
            else:
                data = text.encode()
                texts.append(text)
                sizes.append(len(data))
                digests.append(hashlib.blake2b(data, digest_size=DIGEST_BYTES, salt=salt).digest())
                room -= len(data)
                if room <= 0 or len(texts) == most:
                    break
        if not texts:
            return None
        return _Stretch(texts, sizes, np.frombuffer(b"".join(digests), f"S{DIGEST_BYTES}"))

    def _nothing_left(self) -> DataError:
        least = self._config.min_characters
        what = "empty" if least == 1 else f"shorter than {least} characters"
        left_out = f"{self.short} {what}, {self.invalid} not valid UTF-8"
        if self.invalid:
            hint = "iconv -t utf-8 converts text that is written in another encoding"
        elif self.short and least > 1:
            hint = "a lower --min-characters keeps shorter documents"
        else:
            hint = "name a source that has text in it"
        if self.validation_in_training:
            left_out += ", all others in its validation split"
        return DataError(f'no document left of "{self._splits.name}": {left_out}', hint)


def _block(stretch: _Stretch, is_held_out: NDArray[np.bool_]) -> Block:
    train, validation = stretch.of(~is_held_out), stretch.of(is_held_out)
    return Block(
        {"train": train.texts, "validation": validation.texts},
        {"train": sum(train.sizes), "validation": sum(validation.sizes)},
    )


def _cut(text: str, fraction: float) -> Block:
    """A lone document: its last share of characters is held out, where it has two or more. A line's end is one."""
    place = len(text) - min(max(int(len(text) * fraction), 1), len(text) - 1)
    if text[place - 1 : place + 1] == "\r\n":
        place += 1 if place == 1 else -1
    texts: dict[Split, list[str]] = {"train": [text[:place]], "validation": [text[place:]] if text[place:] else []}
    return Block(texts, {split: sum(len(part.encode()) for part in parts) for split, parts in texts.items()})
