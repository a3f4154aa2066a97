"""A run's data folder: found where it is, or prepared, or prepared again."""

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from gemmazero.config import PrepareConfig
from gemmazero.data.batches import Batches
from gemmazero.data.events import PrepareEvent
from gemmazero.data.feed import Readable
from gemmazero.data.prepare import default_folder, preparing
from gemmazero.data.shards import MANIFEST, Manifest, TokenShards
from gemmazero.data.stream import Stream, document_digests
from gemmazero.data.stream_source import StreamSource
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import DataError
from gemmazero.run_config import DataReference, RunConfig
from gemmazero.training.stop import Stop

Preparing = Generator[PrepareEvent, None, Path]


def unless_stopped(
    events: Generator[PrepareEvent, None, Path], stop: Stop
) -> Generator[PrepareEvent, None, Path | None]:
    """``events``, and what they return; None where ``stop`` came between two of them."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                folder: Path = end.value
                return folder
            yield event
            if stop.reason:
                return None


def prepared(source: str) -> Preparing:
    """``source`` where it is a data folder, else the one that it is prepared into."""
    if (Path(source) / MANIFEST).is_file():
        return Path(source)
    yield from preparing(source, None, PrepareConfig())
    return default_folder(source)


def prepared_again(given: str | None, recorded: DataReference) -> Preparing:
    """Where the run's data is: ``given`` is a data folder or the source; prepared again where its folder is gone."""
    data = Path(given or recorded.folder)
    if given is not None and not (data / MANIFEST).is_file():
        data = default_folder(given).absolute()
        if not data.exists() and Path(given).name == Path(recorded.source).name:
            data = Path(recorded.folder)
    if data.exists() or data != Path(recorded.folder):
        return data
    revision = recorded.revision
    if revision is not None and revision.startswith("sha256:"):  # local files: only their name is recorded
        if given is None:
            raise DataError(
                f'the data folder "{data}" is gone', f'--data names "{recorded.source}", or where the folder is now'
            )
        revision = None
    yield from preparing(given or recorded.source, data, replace(PrepareConfig(**recorded.options), revision=revision))
    return data


def batches_of(config: RunConfig, stream: StreamSource | None) -> Readable:
    """What the run reads its batches from: its data folder, or ``stream``."""
    settings, folder = config.train, Path(config.data.folder)
    if stream is not None:
        return Stream(
            stream.parts,
            _fastest(tokenizer_of(config), stream.config),
            set(document_digests(TokenShards(folder, "validation"))),
            batch_size=settings.batch_size,
            sequence_length=settings.sequence_length,
            seed=settings.seed,
            min_characters=stream.config.min_characters,
            mask_documents=settings.mask_documents,
        )
    return Batches(
        TokenShards(folder, "train"),
        batch_size=settings.batch_size,
        sequence_length=settings.sequence_length,
        seed=settings.seed,
        mask_documents=settings.mask_documents,
    )


def _fastest(tokenizer: Tokenizer, config: PrepareConfig) -> Tokenizer:
    """The same tokenizer as it is made anew, where it then has a faster way to encode, and can be had."""
    if config.tokenizer in ("gpt2", "bytes"):
        with suppress(DataError):
            made = make_tokenizer(config.tokenizer, lambda: (), turn_tokens=config.turn_tokens)
            return made if made.digest == tokenizer.digest else tokenizer
    return tokenizer


def tokenizer_of(config: RunConfig) -> Tokenizer:
    """The data's. Raises DataError where it is not the one that the run began with, or that made the tokens."""
    folder = Path(config.data.folder)
    tokenizer, manifest = Tokenizer.load(folder), Manifest.read(folder)
    if (tokenizer.vocab_size, tokenizer.end_id) != (manifest.vocab_size, manifest.end_id):
        raise DataError(
            f'the tokens in "{folder}" are not of its tokenizer: {MANIFEST} counts {manifest.vocab_size} ids, '
            f"{manifest.end_id} ends a document; the tokenizer has {tokenizer.vocab_size} and {tokenizer.end_id}",
            "gemmazero prepare … --overwrite writes it anew",
        )
    if tokenizer.without_prompt_template().digest != config.data.tokenizer_digest:
        raise DataError(
            f'the tokenizer in "{config.data.folder}" is not the one that the run began with',
            "gemmazero prepare … --overwrite writes it anew",
        )
    return tokenizer
