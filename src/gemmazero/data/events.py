"""What preparing data tells the world: facts in their order, past participles, ``Prepared`` last."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmazero.data.shards import SPLITS, Manifest


@dataclass(frozen=True)
class PrepareReport:
    """What a data folder holds and what became of the source's documents; ``reused`` where it was there already.

    ``passed_over`` counts the files of a folder that were not read.
    """

    folder: Path
    manifest: Manifest
    seconds: float
    reused: bool
    passed_over: int

    @property
    def bytes_per_token(self) -> float:
        """Of both splits, ends of documents among the tokens: what makes tokenizers comparable."""
        splits = self.manifest.splits.values()
        return sum(facts.text_bytes for facts in splits) / sum(facts.tokens for facts in splits)

    def to_json(self) -> dict[str, Any]:
        """The report of ``gemmazero prepare --json``."""
        return {
            "folder": str(self.folder),
            "reused": self.reused,
            "passed_over": self.passed_over,
            "source": self.manifest.source,
            "revision": self.manifest.revision,
            **{split: dataclasses.asdict(self.manifest.splits[split]) for split in SPLITS},
            "dropped_short": self.manifest.dropped_short,
            "dropped_invalid": self.manifest.dropped_invalid,
            "duplicates": self.manifest.duplicates,
            "validation_in_training": self.manifest.validation_in_training,
            "tokenizer": self.manifest.tokenizer,
            "vocab_size": self.manifest.vocab_size,
            "bytes_per_token": round(self.bytes_per_token, 3),
            "round_trip": self.manifest.round_trip,
            "digest": self.manifest.digest,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Opened:
    """The source was found; reading it, or downloading it first, is next. ``passed_over`` is not read."""

    source: str
    revision: str | None
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartedOver:
    """What an earlier ``prepare`` left unfinished is of no use, for this reason."""

    reason: str


@dataclass(frozen=True)
class Continued:
    """An earlier ``prepare`` of the same was killed; so many tokens of it are there and are not made again."""

    tokens: int


@dataclass(frozen=True)
class Sampled:
    """So much was read so far to choose the text that the tokenizer is trained on."""

    documents: int
    text_bytes: int


@dataclass(frozen=True)
class SampleChosen:
    """The tokenizer is trained on so much text, now."""

    text_bytes: int


@dataclass(frozen=True)
class TokenizerMade:
    """The tokenizer was loaded, or trained on the source."""

    name: str
    vocab_size: int


@dataclass(frozen=True)
class Tokenized:
    """So much of the source was taken in so far, both splits together; ``tokens`` are those written."""

    documents: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Prepared:
    """The data folder is there, whole."""

    report: PrepareReport


PrepareEvent = Opened | StartedOver | Continued | Sampled | SampleChosen | TokenizerMade | Tokenized | Prepared
