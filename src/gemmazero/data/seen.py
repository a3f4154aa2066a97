"""Seen: the digests of all documents that were read so far, in as little memory as they can be kept in."""

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 12
"""Of 10⁹ different documents two have the same digest, and the later one is lost, with a chance of 10⁻¹¹."""

Digests = NDArray[np.bytes_]  # of 12 bytes each

_FIRST_RUN, _GROWTH = 2**14, 8
_MERGED_AT_ONCE = 2**15


class Seen:
    """A set of digests, 12 bytes each: sorted runs, each of them up to eight times as long as the one before.

    A run that is full goes into the next, in place, a stretch at a time: with that, and all that is needed on the way,
    15 bytes a digest suffice at any moment. A digest is moved some dozens of times in its life, whatever their number.
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
            if len(run):
                places = np.minimum(np.searchsorted(run, digests), len(run) - 1)
                held |= run[places] == digests
        return held

    def _insert(self, digests: Digests) -> None:
        """Add sorted ``digests``, all different and unknown."""
        longest = _FIRST_RUN
        for number in range(len(self._runs) + 1):
            if number == len(self._runs):
                self._runs.append(np.empty(0, f"S{DIGEST_BYTES}"))
            _merge(self._runs[number], digests)
            if len(self._runs[number]) <= longest:
                return
            digests = self._runs[number]
            self._runs[number] = np.empty(0, f"S{DIGEST_BYTES}")
            longest *= _GROWTH


def _merge(run: Digests, new: Digests) -> None:
    """Let the sorted ``run`` grow by ``new``, also sorted, from its end to its beginning, in its own memory."""
    places = np.searchsorted(run, new)
    end, left = len(run), len(new)
    run.resize(end + left, refcheck=False)
    while left:
        start = max(0, end - _MERGED_AT_ONCE)
        first = int(np.searchsorted(places, start))
        run[start + first : end + left] = np.insert(run[start:end], places[first:left] - start, new[first:left])
        end, left = start, first
