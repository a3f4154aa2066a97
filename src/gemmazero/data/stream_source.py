"""A source to train on while its documents arrive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemmazero.config import PrepareConfig
from gemmazero.data.hub_stream import HubStream
from gemmazero.data.sources import Documents, open_source
from gemmazero.errors import UsageError


@dataclass(frozen=True)
class StreamSource:
    """A source that is read in parts, from the beginning of any of them, as often as asked.

    ``location`` is where this machine finds it, ``name`` and ``revision`` are as a Source has them, ``config`` says how
    its documents are read and tokenized. ``parts`` opens it, which may take a network.
    """

    location: str
    name: str
    revision: str | None
    config: PrepareConfig
    parts: Callable[[], Sequence[Documents]]
    validation: Callable[[], Documents | None]


def open_stream(source: str, config: PrepareConfig) -> StreamSource:
    """The source that ``source`` names, at the commit or with the contents that it has now.

    A dataset on the Hub has a part a file, so that not all of it is read to go on in its midst; all else is one part.
    Raises UsageError for standard input, and what ``open_source`` raises.
    """
    if source == "-":
        raise UsageError("standard input cannot be read again for the next epoch", "gemmazero prepare - keeps it")
    opened = open_source(source, config)
    if source == "sample" or Path(source).exists():
        splits = opened.load()
        location = source if source == "sample" else str(Path(source).absolute())
        return StreamSource(
            location, opened.name, opened.revision, config, lambda: [splits.training], lambda: splits.validation
        )
    assert opened.revision is not None
    stream = HubStream(opened.name, opened.revision, config)
    return StreamSource(source, opened.name, opened.revision, config, stream.parts, stream.validation)
