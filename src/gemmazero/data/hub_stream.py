"""A dataset on the Hub that is read as it arrives; nothing is kept on the disk."""

import logging
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.documents import Documents, no_column
from gemmazero.data.hub_source import dataset_builder, no_split
from gemmazero.data.parquet_reader import texts
from gemmazero.hub import hub_failures

_ROWS_A_BATCH = 256


class HubStream:
    """The dataset ``name`` at the commit ``revision``: a part of documents for each of its files.

    The first call of a method asks the Hub. Raises DataError for a subset, a split or a column that is not there,
    HubError where the Hub does not answer.
    """

    def __init__(self, name: str, revision: str, config: PrepareConfig) -> None:
        self._name, self._revision, self._config = name, revision, config
        self._known: dict[str, list[Documents]] | None = None

    def parts(self) -> list[Documents]:
        """The split that is training text, file by file."""
        splits = self._splits()
        if self._config.split not in splits:
            raise no_split(self._name, self._config.split, splits)
        return splits[self._config.split]

    def validation(self) -> Documents | None:
        """The dataset's own validation split, where it has one that is not training text."""
        files = self._splits().get("validation", []) if self._config.split != "validation" else []
        return (lambda: (text for documents in files for text in documents())) if files else None

    def _splits(self) -> dict[str, list[Documents]]:
        if self._known is None:
            with hub_failures(self._what):
                _fail_at_once()
                builder = dataset_builder(self._name, self._revision, self._config.subset)
                self._known = {
                    split: [
                        partial(self._documents, stream.shard(stream.num_shards, part))
                        for part in range(stream.num_shards)
                    ]
                    for split, stream in builder.as_streaming_dataset().items()
                }
        return self._known

    def _documents(self, part: Any) -> Iterator[str | None]:
        column = self._config.text_column
        with hub_failures(self._what):
            for table in part.with_format("arrow").iter(_ROWS_A_BATCH):
                if column not in table.column_names:
                    raise no_column(column, table.column_names, self._what)
                for chunk in table.column(column).chunks:
                    yield from texts(chunk, column, self._what)

    @property
    def _what(self) -> str:
        return f'dataset "{self._name}"'


@cache
def _fail_at_once() -> None:
    """``datasets`` would try for minutes; whoever reads does that, tells of it, and can be stopped.

    The clients' own words about tries go to stderr, in the middle of what is drawn there, and quote addresses.
    """
    from datasets import config

    config.STREAMING_READ_MAX_RETRIES = config.STREAMING_OPEN_MAX_RETRIES = 1
    config.STREAMING_READ_RETRY_INTERVAL = config.STREAMING_OPEN_RETRY_INTERVAL = 0
    config.STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL = config.STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL = 0
    for client in ("datasets", "huggingface_hub"):
        logging.getLogger(client).setLevel(logging.ERROR)
