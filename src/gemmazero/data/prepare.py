"""preparing(): source → documents → tokens → shards, a generator of its own facts; prepare() drains it."""

import dataclasses
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from gemmazero import __version__
from gemmazero.config import PrepareConfig
from gemmazero.data.assembly import assembling
from gemmazero.data.events import Continued, Opened, Prepared, PrepareEvent, PrepareReport, StartedOver
from gemmazero.data.hub_tokenizer import pinned_tokenizer, portable_name
from gemmazero.data.journal import Journal
from gemmazero.data.shard_writer import TOKENS_A_FILE
from gemmazero.data.shards import MANIFEST, SPLITS, Manifest, TokenShards, split_of
from gemmazero.data.sources import Source, default_tokenizer, open_source, without_endings
from gemmazero.data.tokenizer import TOKENIZER_FILES, Tokenizer, make_tokenizer
from gemmazero.data.vocabulary import check_size
from gemmazero.errors import DataError
from gemmazero.folder import clear_leftovers, whole_folder

MOST_VERIFIED = 2**28  # bytes of tokens: they are read within a second


def prepare(source: str, out: Path | None, config: PrepareConfig, *, overwrite: bool = False) -> PrepareReport:
    """Make the data folder ``out`` of ``source``; ``preparing`` without the facts on the way."""
    *_, last = preparing(source, out, config, overwrite=overwrite)
    assert isinstance(last, Prepared)
    return last.report


def preparing(
    source: str,
    out: Path | None,
    config: PrepareConfig,
    *,
    overwrite: bool = False,
    tokens_a_file: int = TOKENS_A_FILE,
) -> Generator[PrepareEvent, None, None]:
    """Make the data folder ``out``, by default ``default_folder(source)``, telling facts on the way, ``Prepared`` last.

    The folder appears whole or not at all. Where that was prevented, by an error, a kill or by closing the generator,
    the next call that makes the same goes on with the token files, and the trained tokenizer, that were finished. A
    folder that was prepared from the same source in the same way is left as it is and reported; any other is only
    replaced with ``overwrite``, when its successor is complete. Raises DataError, HubError or UsageError.

    Args:
        source: a path, ``sample``, or a Hub dataset id.
        out: the data folder.
        config: all that decides what is in it, and how many processes tokenize.
        overwrite: whether a data folder that is there is replaced.
        tokens_a_file: how many ids a token file holds; what is finished is finished by the file.
    """
    started = time.monotonic()
    folder = out or default_folder(source)
    config = dataclasses.replace(config, tokenizer=pinned_tokenizer(config.tokenizer or default_tokenizer(source)))
    existing = _existing(folder, overwrite)
    tokenizer = None if existing else _early_tokenizer(config)
    opened = open_source(source, config)
    yield Opened(opened.name, opened.revision, opened.passed_over)
    if existing:
        clear_leftovers(folder)
        _refuse_difference(folder, existing, opened, config)
        _verify(folder, existing)
        yield Prepared(_report(folder, existing, opened, started, reused=True))
        return
    if config.tokenizer == "gpt2":
        tokenizer = _tokenizer(config)
    with whole_folder(folder, is_continued=True) as unfinished:
        _refuse_made_meanwhile(folder, overwrite)
        making = _making(opened, config, tokenizer) | {"tokens a file": tokens_a_file}
        journal = Journal(unfinished, making)
        if journal.started_over:
            yield StartedOver(journal.started_over)
        if journal.is_begun:
            yield Continued(sum(map(len, journal.shards.values())) * tokens_a_file)
        try:
            manifest = yield from assembling(
                unfinished, journal, opened, config, _options(config), tokenizer, tokens_a_file
            )
        except BaseException:
            journal.tidy()
            raise
        _refuse_made_meanwhile(folder, overwrite)
    yield Prepared(_report(folder, manifest, opened, started, reused=False))


def default_folder(source: str) -> Path:
    """``data/`` and the last part of the source, without its endings: ``texts/stories.jsonl`` → ``data/stories``."""
    path = Path(source)
    return Path("data", without_endings(path.resolve().name if path.name in ("", "..") else path.name))


def _report(folder: Path, manifest: Manifest, source: Source, started: float, *, reused: bool) -> PrepareReport:
    seconds = time.monotonic() - started
    return PrepareReport(folder, manifest, seconds, reused=reused, passed_over=len(source.passed_over))


def _existing(folder: Path, overwrite: bool) -> Manifest | None:
    """The manifest of a data folder that is to be kept. Raises DataError where something else is in the way."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / MANIFEST).is_file():
        raise DataError(f'"{folder}" exists and is not a data folder', "--out names another folder")
    if overwrite:
        _refuse_foreign_files(folder)
        return None
    return Manifest.read(folder)


def _refuse_made_meanwhile(folder: Path, overwrite: bool) -> None:
    if _existing(folder, overwrite):
        raise DataError(f'"{folder}" is there by now', "run the command again")


def _refuse_foreign_files(folder: Path) -> None:
    """A folder of another kind may have a manifest.json too, and nothing of somebody else's is ever removed."""
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if name not in (MANIFEST, *TOKENIZER_FILES) and split_of(name) is None]
    if foreign or not any(map(split_of, names)):
        holds = f'it holds "{foreign[0]}"' if foreign else "it holds no tokens"
        raise DataError(f'"{folder}" is not a data folder, {holds}', "--out names another folder, or move that away")


def _verify(folder: Path, manifest: Manifest) -> None:
    """Raises DataError where a file is no longer what the manifest says; of many tokens the size alone is compared."""
    tokens = [TokenShards(folder, split) for split in SPLITS]  # compares sizes
    if sum(len(shards) for shards in tokens) * manifest.dtype.itemsize <= MOST_VERIFIED:
        for shards in tokens:
            shards.verify()
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
    decisive = [item.name for item in dataclasses.fields(config) if item.metadata["kind"] == "fixed"]
    options = {name: getattr(config, name) for name in decisive}
    options |= {"validation_fraction": float(config.validation_fraction)}
    del options["subset"], options["revision"]  # they have a place of their own in the manifest
    return options | {"tokenizer": portable_name(config.tokenizer or "")}


def _making(source: Source, config: PrepareConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """All that decides the contents of the folder; a version of this program may, in ways of its own."""
    return _options(config) | {
        "source": source.name,
        "subset": config.subset,
        "revision": source.revision,
        "tokenizer digest": tokenizer.digest if tokenizer else None,
        "version": __version__,
    }


def _early_tokenizer(config: PrepareConfig) -> Tokenizer | None:
    """Refuse a tokenizer that cannot be, before the source is read, or downloaded, for nothing.

    None for one that is trained, and for GPT-2's, whose files may need a network.
    """
    kind, _, size = (config.tokenizer or "").partition(":")
    if kind == "bpe":
        check_size(size, turn_tokens=config.turn_tokens)
    return None if kind in ("bpe", "gpt2") else _tokenizer(config)


def _tokenizer(config: PrepareConfig) -> Tokenizer:
    return make_tokenizer(config.tokenizer or "", lambda: (), turn_tokens=config.turn_tokens)
