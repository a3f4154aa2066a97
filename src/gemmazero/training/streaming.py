"""A streaming run's source; and of its first documents a data folder, with the run's tokenizer and validation text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gemmazero.config import PrepareConfig
from gemmazero.data.hub_tokenizer import absolute_path, pinned_tokenizer
from gemmazero.data.prepare import default_folder, preparing
from gemmazero.data.shards import MANIFEST
from gemmazero.data.sources import default_tokenizer
from gemmazero.data.stream_source import StreamSource, open_stream
from gemmazero.errors import DataError, UsageError
from gemmazero.run_config import RunConfig
from gemmazero.storage.locate import STREAM
from gemmazero.training.data_folder import Preparing, prepared, prepared_again
from gemmazero.training.settings import Request

FIRST_DOCUMENTS, FIRST_BYTES = 10_000, 2**26
"""What is looked at before training begins, whichever is reached first."""
HELD_OUT = 0.1
"""The share of them that becomes the validation split; of a source's own one, so many are taken."""
_LARGEST_HELD_OUT = 2**20  # bytes of a document


def stream_of(request: Request, before: RunConfig | None) -> StreamSource | None:
    """The source that the run streams, which ``before`` describes where the run goes on; None for any other run.

    Raises:
        GemmaZeroError: it cannot be streamed, or is another one than before.
    """
    if before is None:
        if request.settings.get("stream"):
            return _asked_for(request)
        if request.options:
            option = "--" + next(iter(request.options)).replace("_", "-")
            hint = f"add --stream, or: gemmazero prepare {request.source} {option} …"
            raise UsageError(f"{option} is for a source that is streamed", hint)
        return None
    recorded = before.data
    if recorded.stream is None:
        return None
    location, is_local = request.data or recorded.stream, (recorded.revision or "").startswith("sha256:")
    if is_local and not Path(location).exists():
        raise DataError(f'the text that the run streams is gone: "{location}"', "--data names where it is now")
    config = PrepareConfig(**recorded.options)
    source = open_stream(location, config if is_local else replace(config, revision=recorded.revision))
    if source.revision != recorded.revision or (source.revision is None and source.name != recorded.source):
        raise DataError(
            f'"{location}" is not the text that the run began with',
            f"it began with {recorded.source}; --out names another run",
        )
    return replace(source, name=recorded.source)


def data_of(request: Request, before: RunConfig | None, stream: StreamSource | None) -> Preparing:
    """Find or prepare the run's data folder, which of a run that streams holds the beginning; return it."""
    if stream is not None:
        return beginning(stream, request.folder, anew=before is None)
    return prepared(request.source) if before is None else prepared_again(request.data, before.data)


def beginning(source: StreamSource, run: Path, *, anew: bool) -> Preparing:
    """The data folder of the source's first documents, in the run folder; made where it is not there, or ``anew``.

    Raises:
        DataError: they are fewer than two, so that none can be held out.
    """
    folder = run / STREAM / "beginning"
    if not anew and (folder / MANIFEST).is_file():
        return folder
    config = replace(source.config, subset=None, revision=None, split="train", text_column="text",
                     document_separator=None)  # fmt: skip
    own = source.validation()
    documents = (text for part in source.parts() for text in part())
    training = list(_first(documents, FIRST_DOCUMENTS, config.min_characters))
    if own is None and len(set(training)) < 2:
        raise DataError(f'"{source.name}" has no two documents to hold one out of', "gemmazero prepare divides one")
    with TemporaryDirectory(prefix="gemmazero-") as temporary:
        texts = Path(temporary, f"{default_folder(source.name).name}.beginning")
        texts.mkdir()
        _write(texts / "train.jsonl", training)
        if own is not None:
            _write(texts / "validation.jsonl", _first(own(), int(FIRST_DOCUMENTS * HELD_OUT), config.min_characters))
        yield from preparing(str(texts), folder, config, overwrite=True)
    return folder


def _asked_for(request: Request) -> StreamSource:
    if (Path(request.source) / MANIFEST).is_file():
        raise UsageError(f'"{request.source}" is prepared already', "leave --stream out")
    tokenizer = str(request.options.get("tokenizer") or request.init or default_tokenizer(request.source))
    if Path(tokenizer).exists():
        tokenizer = str(absolute_path(tokenizer))
    seed = request.settings.get("seed", PrepareConfig().seed)
    options = {**request.options, "tokenizer": pinned_tokenizer(tokenizer), "validation_fraction": HELD_OUT}
    return open_stream(request.source, PrepareConfig(**options, seed=seed))


def _first(documents: Iterable[str | None], most: int, min_characters: int) -> Iterator[str]:
    """At most ``most`` documents, and of all that is read at most ``FIRST_BYTES``."""
    count, room = 0, FIRST_BYTES
    for text in documents:
        size = 0 if text is None else len(text.encode())
        if text is not None and len(text.strip()) >= min_characters and size <= _LARGEST_HELD_OUT:
            count += 1
            yield text
        room -= size
        if count == most or room <= 0:
            return


def _write(file: Path, texts: Iterable[str]) -> None:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
