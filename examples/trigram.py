"""An interpolated Kneser-Ney trigram model of a data folder: what a run has to beat."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemmazero.data.shards import TokenShards

DISCOUNT = 0.75  # of every count seen, as Ney, Essen and Kneser (1994) estimate it for text

Ids = NDArray[np.int64]


def validation_loss(folder: Path) -> float:
    """Nats a token of the validation split, every token but its first predicted, by a trigram of the training split."""
    train, validation = (_tokens(TokenShards(folder, split)) for split in ("train", "validation"))
    size = TokenShards(folder, "train").manifest.vocab_size
    first, second, third = train[:-2], train[1:-1], train[2:]
    trigrams = _Counts((first * size + second) * size + third)
    trigram_totals = _Counts(first * size + second)
    trigram_kinds = _Counts(trigrams.kinds // size)
    continuations = _Counts(trigrams.kinds % (size * size))  # second, third: after how many different tokens
    bigram_totals = _Counts(continuations.kinds // size, weights=continuations.numbers)
    bigram_kinds = _Counts(continuations.kinds // size)
    unigrams = _Counts(continuations.kinds % size)

    a, b, c = np.concatenate(([-1], validation[:-2])), validation[:-1], validation[1:]
    unigram = (unigrams[c] + 1.0 / size) / (len(continuations.kinds) + 1.0)
    bigram = _interpolated(continuations[b * size + c], bigram_totals[b], bigram_kinds[b], lower=unigram)
    context = a * size + b
    trigram = _interpolated(trigrams[context * size + c], trigram_totals[context], trigram_kinds[context], lower=bigram)
    return float(-np.log(np.where(a < 0, bigram, trigram)).mean())


def _interpolated(count: Any, total: Any, kinds: Any, *, lower: Any) -> Any:
    """max(count - D, 0) / total + D · kinds / total · lower; the lower order alone where the context is new."""
    seen = np.maximum(total, 1)
    return np.where(total > 0, np.maximum(count - DISCOUNT, 0) / seen + DISCOUNT * kinds / seen * lower, lower)


class _Counts:
    """How often each key occurs; 0 for a key that does not."""

    def __init__(self, keys: Ids, weights: Ids | None = None) -> None:
        self.kinds, inverse = np.unique(keys, return_inverse=True)
        self.numbers = np.bincount(inverse, weights=weights).astype(np.int64)

    def __getitem__(self, keys: Ids) -> Ids:
        places = np.minimum(np.searchsorted(self.kinds, keys), len(self.kinds) - 1)
        return np.where(self.kinds[places] == keys, self.numbers[places], 0)


def _tokens(shards: TokenShards) -> Ids:
    return shards.read(0, len(shards)).astype(np.int64)


if __name__ == "__main__":
    print(f"{validation_loss(Path(sys.argv[1])):.3f}")
