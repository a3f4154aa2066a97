"""TrainingSample: the part of a source's training text that a vocabulary is trained on."""

import hashlib
import heapq
from collections.abc import Iterator

BUDGET_BYTES = 2**26
"""Of text in UTF-8. Training 32 768 tokens on so much program code took 23 s of one core and 230 MB in all."""

_LONGEST_PIECE = 2**20  # characters


class TrainingSample:
    """Pieces of text, chosen by a seeded hash of their content: those with the smallest that fit the budget.

    So it depends neither on the order of the documents nor on where one stands. A document longer than a million
    characters is chosen by pieces of that length.
    """

    def __init__(self, seed: int, budget_bytes: int = BUDGET_BYTES) -> None:
        self._salt = seed.to_bytes(8, "little")
        self._budget_bytes = self._room = budget_bytes
        self._below = 2**64
        self._chosen: list[tuple[int, bytes]] = []  # a heap, the largest hash first

    def add(self, text: str) -> None:
        """Take in a document."""
        for start in range(0, len(text), _LONGEST_PIECE):
            data = text[start : start + _LONGEST_PIECE].encode()
            digest = hashlib.blake2b(data, digest_size=8, salt=self._salt, person=b"sample").digest()
            position = int.from_bytes(digest, "little")
            if position < self._below:
                heapq.heappush(self._chosen, (-position, data))
                self._room -= len(data)
            while self._room < 0:
                negative, data = heapq.heappop(self._chosen)
                self._below = -negative
                self._room += len(data)

    @property
    def text_bytes(self) -> int:
        """The size of what was chosen so far."""
        return self._budget_bytes - self._room

    def texts(self) -> Iterator[str]:
        """The pieces that were chosen, in the order of their hashes."""
        for _, data in sorted(self._chosen, reverse=True):
            yield data.decode()
