"""assembling(): the documents of a source → the files of a data folder, from where an earlier process was killed."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.corpus import Block, Reading, readings
from gemmazero.data.encoders import Encoders
from gemmazero.data.events import PrepareEvent, SampleChosen, Sampled, Tokenized, TokenizerMade
from gemmazero.data.journal import Journal
from gemmazero.data.shard_writer import ShardWriter
from gemmazero.data.shards import SPLITS, FileFacts, Manifest, Split, SplitFacts, file_facts
from gemmazero.data.sources import Source, Splits
from gemmazero.data.tokenizer import TOKENIZER_FILES, Tokenizer, make_tokenizer
from gemmazero.data.training_sample import TrainingSample
from gemmazero.errors import DataError
from gemmazero.runtime import available_cores

_ROUND_TRIP_DOCUMENTS = 1000
_ROUND_TRIP_CHARACTERS = 10_000


@dataclass(frozen=True)
class _Written:
    """What the token files hold, and the beginnings of some of the documents that they were made of."""

    splits: dict[Split, SplitFacts]
    files: dict[str, FileFacts]
    some: list[str]


def assembling(
    folder: Path,
    journal: Journal,
    source: Source,
    config: PrepareConfig,
    options: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    tokens_a_file: int,
) -> Generator[PrepareEvent, None, Manifest]:
    """Fill ``folder``, the journal's, but for what is there already; the manifest that was written last.

    The source is read once, whatever is there, and tokenized on the way. It is read again where one side would be left
    empty, and once before for a tokenizer that is to be trained (None).
    """
    splits = source.load()
    tokenizer = tokenizer or (yield from _trained(folder, journal, splits, config))
    yield TokenizerMade(tokenizer.name, tokenizer.vocab_size)
    processes = config.workers or available_cores()
    for reading in readings(splits, config, journal.held_out_below):
        written = yield from _tokenizing(folder, journal, reading, tokenizer, processes, tokens_a_file)
        if reading.settled != reading.held_out_below:
            journal.forget_shards(reading.settled)
    totals = written.splits
    if totals["train"].tokens < 2:
        raise DataError(f'"{source.name}" gives no tokens to train on', "--tokenizer names another tokenizer")
    if not journal.tokenizer:
        tokenizer.save(folder)
    manifest = Manifest(
        source=source.name,
        subset=config.subset,
        revision=source.revision,
        options=options,
        tokenizer=tokenizer.name,
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        end_id=tokenizer.end_id,
        round_trip=tokenizer.round_trip(written.some),
        splits=totals,
        dropped_short=reading.short,
        dropped_invalid=reading.invalid,
        duplicates=reading.duplicates,
        validation_in_training=reading.validation_in_training,
        files=written.files | {name: file_facts(folder / name) for name in TOKENIZER_FILES},
    )
    manifest.write(folder)
    return manifest


def _trained(
    folder: Path, journal: Journal, splits: Splits, config: PrepareConfig
) -> Generator[PrepareEvent, None, Tokenizer]:
    """The tokenizer that the journal keeps, or one that is trained on a sample of the training text, and then kept."""
    spec = config.tokenizer or ""
    if journal.tokenizer:
        kept = Tokenizer.load(folder)
        kept.name = spec
        return kept
    for reading in readings(splits, config, None):
        sample, documents, text_bytes = TrainingSample(config.seed), 0, 0
        for block in reading.blocks():
            for text in block.texts["train"]:
                sample.add(text)
            documents += sum(map(len, block.texts.values()))
            text_bytes += sum(block.text_bytes.values())
            yield Sampled(documents, text_bytes)
    yield SampleChosen(sample.text_bytes)
    tokenizer = make_tokenizer(spec, sample.texts, turn_tokens=config.turn_tokens)
    tokenizer.save(folder)
    journal.keep_tokenizer(TOKENIZER_FILES, reading.held_out_below)
    return tokenizer


def _tokenizing(
    folder: Path, journal: Journal, reading: Reading, tokenizer: Tokenizer, processes: int, tokens_a_file: int
) -> Generator[PrepareEvent, None, _Written]:
    """Write the token files of both splits."""
    totals = dict.fromkeys(SPLITS, SplitFacts())
    some: list[str] = []
    with Encoders(tokenizer.documents_encoder, processes) as encoders, ExitStack() as files:
        writers: dict[Split, ShardWriter] = {}
        for split, finished in journal.shards.items():
            writer = ShardWriter(folder, split, tokenizer.vocab_size, finished=finished, tokens_a_file=tokens_a_file)
            writers[split] = files.enter_context(writer)
        done = {split: writer.documents for split, writer in writers.items()}
        for (block, counts), ids in encoders.encoded(_left(reading.blocks(), done)):
            for (split, writer), part, count in zip(writers.items(), ids, counts, strict=True):
                for shard in writer.append(part, count):
                    journal.keep(split, shard)
                totals[split] = _added(totals[split], block, split, writer.tokens)
                left = _ROUND_TRIP_DOCUMENTS - len(some)
                some += [text[:_ROUND_TRIP_CHARACTERS] for text in block.texts[split][:left]]
            yield Tokenized(
                sum(facts.documents for facts in totals.values()),
                sum(writer.tokens for writer in writers.values()),
                sum(facts.text_bytes for facts in totals.values()),
            )
    if any(writers[split].documents != totals[split].documents for split in SPLITS):
        raise DataError("the source changed while it was read", "run the command again")
    return _Written(totals, {name: facts for writer in writers.values() for name, facts in writer.files.items()}, some)


def _left(
    blocks: Iterator[Block], done: Mapping[Split, int]
) -> Iterator[tuple[tuple[Block, list[int]], list[list[str]]]]:
    """Each block with the number of documents that are left of it to encode, and those, of each split.

    Of the first ones so many are ``done``: their tokens are in files that are finished.
    """
    done = dict(done)
    for block in blocks:
        parts = [block.texts[split][done[split] :] for split in SPLITS]
        for split in SPLITS:
            done[split] = max(0, done[split] - len(block.texts[split]))
        yield (block, [len(part) for part in parts]), parts


def _added(facts: SplitFacts, block: Block, split: Split, tokens: int) -> SplitFacts:
    return SplitFacts(
        documents=facts.documents + len(block.texts[split]),
        tokens=tokens,
        text_bytes=facts.text_bytes + block.text_bytes[split],
    )
