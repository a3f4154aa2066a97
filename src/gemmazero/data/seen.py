"""Seen: the digests of all documents that were read so far, in as little memory as they can be kept in."""

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 12
"""Of 10⁹ different documents two have the same digest, and the later one is lost, with a chance of 10⁻¹¹."""

Digests = NDArray[np.bytes_]  # of 12 bytes each

_MERGED_AT_ONCE = 2**13


class Seen:
    """A set of digests, 12 bytes each: sorted runs, each of them at least four times as long as the next.

    A run that grows too long for that goes into the one before it, in place, a stretch at a time: with both, and all
    that is needed on the way, 16 bytes a digest suffice at any moment, but for some hundred thousand bytes in all.
    """

    def __init__(self) -> None:
        self._runs: list[Digests] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of ``digests`` are seen for the first time; of equal ones among them, only the first is."""
        different, first = np.unique(digests, return_index=True)
        unknown = ~self.holds(different)
        is_new = np.zeros(len(digests), bool)
        is_new[first[unknown]] = True
        self._insert(different[unknown])
        return is_new

    def holds(self, digests: Digests) -> NDArray[np.bool_]:
        """Which of ``digests`` were added before."""
        held = np.zeros(len(digests), bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, digests), len(run) - 1)
            held |= run[places] == digests
        return held

    def _insert(self, digests: Digests) -> None:
        """Add sorted ``digests``, all different and unknown."""
        if len(digests):
            self._runs.append(digests)
        while len(self._runs) > 1 and 4 * len(self._runs[-1]) > len(self._runs[-2]):
            _merge(self._runs[-2], self._runs.pop())


def _merge(run: Digests, new: Digests) -> None:
    """Let the sorted ``run`` grow by ``new``, also sorted, from its end to its beginning, in its own memory."""
    end, left = len(run), len(new)
    run.resize(end + left, refcheck=False)
    while left:
        start = max(0, end - _MERGED_AT_ONCE)
        first = int(np.searchsorted(new[:left], run[start])) if start else 0
        places = np.searchsorted(run[start:end], new[first:left])
        run[start + first : end + left] = np.insert(run[start:end], places, new[first:left])
        end, left = start, first
