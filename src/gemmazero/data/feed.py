"""Feed: the batches of a run by number, read ahead of the training."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from gemmazero.data.batch import Batch, Bookmark, Passage
from gemmazero.data.read_ahead import ReadAhead

_TOKENS_AHEAD, _LEAST_AHEAD, _MOST_AHEAD = 2**20, 2, 16  # of 16 bytes; and in batches
_SECONDS_BETWEEN_LOOKS = 0.1


class Readable(Protocol):
    """Where batches come from."""

    @property
    def away(self) -> str:
        """Why nothing can be read at present; empty while it can, or where nobody knows yet."""

    def starting_at(self, number: int, bookmark: Bookmark | None) -> Iterator[Passage]:
        """The batches from ``number`` on; ``bookmark`` is of that one or an earlier one, None of the first."""

    def close(self) -> None:
        """Give up what is being waited for."""


class Feed:
    """``feed[n]`` is batch ``n`` of the run, read ahead by a thread; the same again until another one is asked for.

    Asked for in their order, they wait to be taken; any other number begins to read anew. What cannot be read raises
    GemmaZeroError where it is asked for.

    Args:
        source: of the batches.
        batch_tokens: the size of one.
        pinned: whether they are for a GPU, and lie where it copies from by itself.
    """

    def __init__(self, source: Readable, batch_tokens: int, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._source, self._ahead = source, min(max(_TOKENS_AHEAD // batch_tokens, _LEAST_AHEAD), _MOST_AHEAD)
        self._known: dict[int, Bookmark | None] = {0: None}
        self._held: tuple[int, Passage] | None = None
        self._reading: ReadAhead[Passage] | None = None
        self._next = -1
        self._told = ""

    def __getitem__(self, number: int) -> Batch:
        return self._passage(number).batch

    def documents(self, number: int) -> list[Any]:
        """For each window of batch ``number`` what documents it holds, as its source counts them."""
        return self._passage(number).documents()

    def wait(self, number: int, is_over: Callable[[], bool]) -> str:
        """Wait until batch ``number`` can be had: then empty, else why it cannot yet.

        It returns with the reason as soon as there is a new one, and with the last one known when ``is_over``.
        """
        if self._held is not None and self._held[0] == number:
            return ""
        reading = self._reading_at(number)
        while not reading.wait(_SECONDS_BETWEEN_LOOKS):
            away = self._source.away
            if is_over() or (away and away != self._told):
                self._told = away or self._told
                return away or "the documents have not arrived yet"
        self._told = ""
        return ""

    def bookmark(self, number: int) -> Bookmark | None:
        """Where batch ``number`` begins; one that is neither the next nor known by ``go_to`` is read for it."""
        if self._held is not None and self._held[0] + 1 == number:
            return self._held[1].after
        return self._known[number] if number in self._known else self._passage(number).begin

    def go_to(self, number: int, bookmark: Bookmark | None) -> None:
        """Know that batch ``number`` begins at ``bookmark``."""
        self._known[number] = bookmark

    def close(self) -> None:
        """Let go of the source and of the thread."""
        self._source.close()  # first: the thread may be waiting for it
        if self._reading is not None:
            self._reading.close()

    def _passage(self, number: int) -> Passage:
        if self._held is None or self._held[0] != number:
            reading = self._reading_at(number)
            self._held, self._next = (number, reading.take()), number + 1
        return self._held[1]

    def _reading_at(self, number: int) -> ReadAhead[Passage]:
        """What is about to give batch ``number``."""
        if self._reading is None or self._next != number:
            if self._reading is not None:
                self._reading.close()
            begin = max(known for known in self._known if known <= number)
            batches = self._source.starting_at(number, self._known[begin])
            if self._pinned:
                batches = map(_pinned, batches)
            self._reading, self._next = ReadAhead(batches, self._ahead), number
        return self._reading


def _pinned(passage: Passage) -> Passage:
    return replace(passage, batch=passage.batch.pinned())
