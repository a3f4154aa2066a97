"""preparing(): source → documents → tokens → shards, a generator of its own facts; prepare() drains it."""

import dataclasses
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.corpus import Corpus, survey
from gemmazero.data.hub_tokenizer import pinned_tokenizer, portable_name
from gemmazero.data.shards import (
    MANIFEST,
    SPLITS,
    Manifest,
    ShardWriter,
    Split,
    SplitFacts,
    TokenShards,
    file_facts,
    split_of,
)
from gemmazero.data.sources import Source, default_tokenizer, open_source, without_endings
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.data.vocabulary import check_size
from gemmazero.errors import DataError
from gemmazero.folder import lock_of, whole_folder
from gemmazero.lock import clear_stale

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

_DOCUMENTS_A_BLOCK = 512
_ROUND_TRIP_DOCUMENTS = 1000
_ROUND_TRIP_CHARACTERS = 10_000


@dataclass(frozen=True)
class PrepareReport:
    """What a data folder holds and what became of the source's documents; ``reused`` where it was there already."""

    folder: Path
    manifest: Manifest
    seconds: float
    reused: bool

    def to_json(self) -> dict[str, Any]:
        """The report of ``gemmazero prepare --json``."""
        splits = self.manifest.splits
        tokens = sum(facts.tokens for facts in splits.values())
        return {
            "folder": str(self.folder),
            "reused": self.reused,
            "source": self.manifest.source,
            "revision": self.manifest.revision,
            **{split: dataclasses.asdict(splits[split]) for split in SPLITS},
            "dropped_short": self.manifest.dropped_short,
            "dropped_invalid": self.manifest.dropped_invalid,
            "tokenizer": self.manifest.tokenizer,
            "vocab_size": self.manifest.vocab_size,
            "bytes_per_token": round(sum(facts.text_bytes for facts in splits.values()) / tokens, 3),
            "round_trip": self.manifest.round_trip,
            "digest": self.manifest.digest,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Opened:
    """The source was found; reading it, or downloading it first, is next."""

    source: str
    revision: str | None


@dataclass(frozen=True)
class Surveyed:
    """The source was read once; so much of it is kept and will be tokenized."""

    documents: int
    text_bytes: int
    dropped_short: int
    dropped_invalid: int


@dataclass(frozen=True)
class TokenizerMade:
    """The tokenizer was loaded, or trained on the source."""

    name: str
    vocab_size: int


@dataclass(frozen=True)
class Tokenized:
    """So much was written so far, of both splits together."""

    documents: int
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Prepared:
    """The data folder is there, whole."""

    report: PrepareReport


PrepareEvent = Opened | Surveyed | TokenizerMade | Tokenized | Prepared


def prepare(source: str, out: Path | None, config: PrepareConfig, *, overwrite: bool = False) -> PrepareReport:
    """Make the data folder ``out`` of ``source``; ``preparing`` without the facts on the way."""
    *_, last = preparing(source, out, config, overwrite=overwrite)
    assert isinstance(last, Prepared)
    return last.report


def preparing(
    source: str, out: Path | None, config: PrepareConfig, *, overwrite: bool = False
) -> Generator[PrepareEvent, None, None]:
    """Make the data folder ``out``, by default ``default_folder(source)``, telling facts on the way, ``Prepared`` last.

    The folder appears whole or not at all, also where the generator is closed early. One that was prepared from the
    same source in the same way is left as it is and reported; any other is only replaced with ``overwrite``, when its
    successor is complete. Raises DataError, HubError or UsageError.
    """
    started = time.monotonic()
    folder = out or default_folder(source)
    config = dataclasses.replace(config, tokenizer=pinned_tokenizer(config.tokenizer or default_tokenizer(source)))
    existing = _existing(folder, overwrite)
    if not existing:
        _check_tokenizer(config)
    opened = open_source(source, config)
    yield Opened(opened.name, opened.revision)
    if existing:
        clear_stale(lock_of(folder))
        _refuse_difference(folder, existing, opened, config)
        _verify(folder, existing)
        yield Prepared(PrepareReport(folder, existing, time.monotonic() - started, reused=True))
        return
    corpus = survey(opened.load(), config)
    yield Surveyed(corpus.kept, corpus.text_bytes, corpus.dropped_short, corpus.dropped_invalid)
    tokenizer = _tokenizer(config, corpus)
    yield TokenizerMade(tokenizer.name, tokenizer.vocab_size)
    with whole_folder(folder) as temporary:
        manifest = yield from _fill(temporary, opened, corpus, tokenizer)
    yield Prepared(PrepareReport(folder, manifest, time.monotonic() - started, reused=False))


def default_folder(source: str) -> Path:
    """``data/`` and the last part of the source, without its endings: ``texts/stories.jsonl`` → ``data/stories``."""
    path = Path(source)
    return Path("data", without_endings(path.resolve().name if path.name in ("", "..") else path.name))


def _existing(folder: Path, overwrite: bool) -> Manifest | None:
    """The manifest of a data folder that is to be kept. Raises DataError where something else is in the way."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / MANIFEST).is_file():
        raise DataError(f'"{folder}" exists and is not a data folder', "--out names another folder")
    if overwrite:
        _refuse_foreign_files(folder)
        return None
    train, _ = (TokenShards(folder, split) for split in SPLITS)
    return train.manifest


def _refuse_foreign_files(folder: Path) -> None:
    """A folder of another kind may have a manifest.json too, and nothing of somebody else's is ever removed."""
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if name not in (MANIFEST, *TOKENIZER_FILES) and split_of(name) is None]
    if foreign or not any(map(split_of, names)):
        holds = f'it holds "{foreign[0]}"' if foreign else "it holds no tokens"
        raise DataError(f'"{folder}" is not a data folder, {holds}', "--out names another folder, or move that away")


def _verify(folder: Path, manifest: Manifest) -> None:
    """Raises DataError where a file is no longer what the manifest says."""
    for split in SPLITS:
        TokenShards(folder, split).verify()
    for name in TOKENIZER_FILES:
        manifest.verify_file(folder / name)


def _refuse_difference(folder: Path, existing: Manifest, source: Source, config: PrepareConfig) -> None:
    old = {"source": existing.source, "revision": existing.revision, "subset": existing.subset} | dict(existing.options)
    new = {"source": source.name, "revision": source.revision, "subset": config.subset} | _options(config)
    for name, value in new.items():
        if old.get(name) != value:
            raise _differs(folder, f'{name} "{old.get(name)}", not "{value}"')
    tokenizer = config.tokenizer or ""
    if Path(tokenizer).exists() and _tokenizer(config).digest != existing.tokenizer_digest:
        raise _differs(folder, f'another tokenizer than "{tokenizer}" is now')


def _differs(folder: Path, how: str) -> DataError:
    return DataError(f'"{folder}" was prepared with {how}', "--overwrite replaces it, --out names another folder")


def _options(config: PrepareConfig) -> dict[str, Any]:
    """What the manifest records of the settings; of a tokenizer's path the last part, the same on any machine."""
    options = dataclasses.asdict(config) | {"validation_fraction": float(config.validation_fraction)}
    del options["subset"], options["revision"]  # they have a place of their own in the manifest
    return options | {"tokenizer": portable_name(config.tokenizer or "")}


def _check_tokenizer(config: PrepareConfig) -> None:
    """Refuse a tokenizer that cannot be, before the source is read, or downloaded, for nothing."""
    kind, _, size = (config.tokenizer or "").partition(":")
    if kind == "bpe":
        check_size(size, turn_tokens=config.turn_tokens)
    elif kind != "gpt2":  # whose files may need a network
        _tokenizer(config)


def _tokenizer(config: PrepareConfig, corpus: Corpus | None = None) -> Tokenizer:
    def training_texts() -> Iterator[str]:
        return (text for split, text in corpus.documents() if split == "train") if corpus else iter(())

    return make_tokenizer(config.tokenizer or "", training_texts, turn_tokens=config.turn_tokens)


def _fill(
    folder: Path, source: Source, corpus: Corpus, tokenizer: Tokenizer
) -> Generator[PrepareEvent, None, Manifest]:
    """Write the token files of both splits, the tokenizer's files and the manifest."""
    totals = dict.fromkeys(SPLITS, SplitFacts())
    documents = corpus.documents()
    with (
        ShardWriter(folder, "train", tokenizer.vocab_size) as train,
        ShardWriter(folder, "validation", tokenizer.vocab_size) as validation,
    ):
        writers: dict[Split, ShardWriter] = {"train": train, "validation": validation}
        while block := list(islice(documents, _DOCUMENTS_A_BLOCK)):
            for split, writer in writers.items():
                texts = [text for side, text in block if side == split]
                totals[split] = _added(totals[split], texts, tokenizer, writer)
            yield Tokenized(
                sum(facts.documents for facts in totals.values()),
                sum(facts.tokens for facts in totals.values()),
                sum(facts.text_bytes for facts in totals.values()),
            )
    if sum(facts.text_bytes for facts in totals.values()) != corpus.text_bytes:
        raise DataError(f'"{source.name}" changed while it was read', "run the command again")
    if totals["train"].tokens < 2:
        raise DataError(f'"{source.name}" gives no tokens to train on', "--tokenizer names another tokenizer")
    tokenizer.save(folder)
    files = train.files | validation.files | {path.name: file_facts(path) for path in folder.glob("*.json")}
    manifest = Manifest(
        source=source.name,
        subset=corpus.config.subset,
        revision=source.revision,
        options=_options(corpus.config),
        tokenizer=tokenizer.name,
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        end_id=tokenizer.end_id,
        round_trip=_round_trip(corpus, tokenizer),
        splits=totals,
        dropped_short=corpus.dropped_short,
        dropped_invalid=corpus.dropped_invalid,
        files=files,
    )
    manifest.write(folder)
    return manifest


def _added(facts: SplitFacts, texts: list[str], tokenizer: Tokenizer, writer: ShardWriter) -> SplitFacts:
    writer.append(tokenizer.encode_documents(texts))
    return SplitFacts(
        documents=facts.documents + len(texts),
        tokens=writer.tokens,
        text_bytes=facts.text_bytes + sum(len(text.encode()) for text in texts),
    )


def _round_trip(corpus: Corpus, tokenizer: Tokenizer) -> float:
    sample = islice(corpus.documents(), _ROUND_TRIP_DOCUMENTS)
    return tokenizer.round_trip(text[:_ROUND_TRIP_CHARACTERS] for _, text in sample)
