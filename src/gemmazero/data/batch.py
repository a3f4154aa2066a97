"""Batch: the tokens of one optimizer step; Passage: the same, and where it was read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

Bookmark = Mapping[str, int]
"""Where in a stream a batch begins: all that it takes to read on from there."""


@dataclass(frozen=True)
class Batch:
    """Windows of tokens; ``targets`` are the ``ids`` one place further on.

    ``documents`` numbers the documents of each window from 0, where attention is to stay inside of them.
    """

    ids: Tensor  # int64 (B, T)
    targets: Tensor  # int64 (B, T)
    documents: Tensor | None = None  # int32 (B, T)

    @classmethod
    def of(cls, ids: Tensor, targets: Tensor, end_id: int | None) -> Self:
        """The batch; ``end_id`` ends its documents, None where attention does not stop there."""
        return cls(ids, targets, None if end_id is None else document_numbers(ids, end_id))

    def pinned(self) -> "Batch":
        """The same in memory that a GPU copies from by itself, while this process goes on."""
        documents = None if self.documents is None else self.documents.pin_memory()
        return Batch(self.ids.pin_memory(), self.targets.pin_memory(), documents)

    def micro_batches(self, size: int, device: torch.device, *, rank: int = 0, ranks: int = 1) -> Iterator["Batch"]:
        """The windows that are process ``rank``'s of ``ranks``, ``size`` at a time at most, on ``device``.

        Those of all processes, one after the other, are the whole batch; no process has more than one window more
        than another. A GPU is not waited for.
        """

        def moved(tokens: Tensor) -> Tensor:
            return tokens.to(device, non_blocking=device.type == "cuda")

        first, last = (len(self.ids) * number // ranks for number in (rank, rank + 1))
        for start in range(first, last, size):
            rows = slice(start, min(start + size, last))
            documents = None if self.documents is None else moved(self.documents[rows])
            yield Batch(moved(self.ids[rows]), moved(self.targets[rows]), documents)


@dataclass(frozen=True)
class Passage:
    """A batch, the documents in each of its windows for whoever asks, where in a stream it begins, and the next one."""

    batch: Batch
    documents: Callable[[], list[Any]]
    begin: Bookmark | None = None
    after: Bookmark | None = None


def document_numbers(ids: Tensor, end_id: int) -> Tensor:
    """(B, T) → int32 (B, T): how many documents of its row ended before each token; ``end_id`` belongs to its own."""
    ends = ids == end_id
    return (ends.cumsum(dim=-1) - ends.long()).int()
