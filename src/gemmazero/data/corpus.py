"""Corpus: the documents of a source that are kept, and which of them are held out for validation."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from gemmazero.config import PrepareConfig
from gemmazero.data.shards import Split
from gemmazero.data.sources import Documents, Splits
from gemmazero.errors import DataError

_HASHES = 2**64


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a survey of a source found; ``documents`` reads it again, from the first, as often as asked."""

    splits: Splits
    config: PrepareConfig
    kept: int
    text_bytes: int
    dropped_short: int
    dropped_invalid: int
    held_out_below: int
    """The hash below which a document is held out; 0 where the source has a validation split of its own."""

    def documents(self) -> Iterator[tuple[Split, str]]:
        """Every kept document and its split: the source's own, else by a hash of its content.

        The same document is on the same side wherever it stands and in whatever company. A lone document is divided
        by position: its end is held out.
        """
        alone = self.kept == 1
        for text in _kept(self.splits.training, self.config):
            if self.splits.validation is None and alone:
                cut = len(text) - _held_out_characters(len(text), self.config.validation_fraction)
                yield "train", text[:cut]
                if cut < len(text):
                    yield "validation", text[cut:]
            else:
                yield "validation" if _hash(text.encode(), self.config.seed) < self.held_out_below else "train", text
        for text in _kept(self.splits.validation, self.config) if self.splits.validation else ():
            yield "validation", text


def survey(splits: Splits, config: PrepareConfig) -> Corpus:
    """Read everything once: count what is kept and dropped, and find the documents to hold out.

    With two different documents or more and a fraction above 0, each side has at least one. Raises DataError where
    there is no training text.
    """
    dropped: Counter[str] = Counter()
    kept = text_bytes = 0
    smallest, largest = _HASHES, 0
    for text in _kept(splits.training, config, dropped):
        data = text.encode()
        kept, text_bytes = kept + 1, text_bytes + len(data)
        position = _hash(data, config.seed)
        smallest, largest = min(smallest, position), max(largest, position)
    if not kept:
        raise _nothing_left(splits.name, config, dropped)
    for text in _kept(splits.validation, config, dropped) if splits.validation else ():
        kept, text_bytes = kept + 1, text_bytes + len(text.encode())
    held_out_below = min(max(int(config.validation_fraction * _HASHES), smallest + 1), largest)
    return Corpus(
        splits=splits,
        config=config,
        kept=kept,
        text_bytes=text_bytes,
        dropped_short=dropped["short"],
        dropped_invalid=dropped["invalid"],
        held_out_below=held_out_below if config.validation_fraction and not splits.validation else 0,
    )


def _kept(documents: Documents, config: PrepareConfig, dropped: Counter[str] | None = None) -> Iterator[str]:
    """The first ``max_documents`` documents that are valid and long enough, white space around them not counted."""
    reasons = Counter() if dropped is None else dropped

    def good() -> Iterator[str]:
        for text in documents():
            if text is None:
                reasons["invalid"] += 1
            elif len(text.strip()) < config.min_characters:
                reasons["short"] += 1
            else:
                yield text

    return islice(good(), config.max_documents or None)


def _nothing_left(source: str, config: PrepareConfig, dropped: Counter[str]) -> DataError:
    short, invalid = dropped["short"], dropped["invalid"]
    what = "empty" if config.min_characters == 1 else f"shorter than {config.min_characters} characters"
    if invalid:
        hint = "iconv -t utf-8 converts text that is written in another encoding"
    elif short and config.min_characters > 1:
        hint = "a lower --min-characters keeps shorter documents"
    else:
        hint = "name a source that has text in it"
    return DataError(f'no document left of "{source}": {short} {what}, {invalid} not valid UTF-8', hint)


def _hash(text: bytes, seed: int) -> int:
    """A seeded place of a text in [0, 2**64), uniform and independent of all others."""
    hashed = hashlib.blake2b(f"{seed}\n".encode(), digest_size=8)
    hashed.update(text)
    return int.from_bytes(hashed.digest(), "little")


def _held_out_characters(length: int, fraction: float) -> int:
    return min(max(int(length * fraction), 1), length - 1) if fraction else 0
