"""A dataset on the Hub as a source."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.documents import Source, Splits, no_column
from gemmazero.data.parquet_reader import texts
from gemmazero.errors import DataError, HubError
from gemmazero.hub import download_files, hub_failures, resolve_dataset

_ROWS_A_BATCH = 1024


def open_hub(name: str, config: PrepareConfig) -> Source:
    """The dataset ``name`` at the commit where its revision stands now. Raises HubError where the Hub does not say."""
    revision = resolve_dataset(name, config.revision)
    return Source(name, revision, lambda: _load(name, revision, config))


def _load(name: str, revision: str, config: PrepareConfig) -> Splits:
    """Download the dataset, or find it in the Hub's cache, where an interrupted download goes on by file."""
    with hub_failures(f'dataset "{name}"'):
        builder = dataset_builder(name, revision, config.subset)
        if not Path(builder.cache_dir).exists():  # not built before, of files that were compared then
            _download(name, revision, builder.config.data_files or {})
        builder.download_and_prepare()
    splits = list(builder.info.splits)
    if config.split not in splits:
        raise no_split(name, config.split, splits)

    def documents(split: str) -> Iterator[str | None]:
        table = builder.as_dataset(split)
        if config.text_column not in table.column_names:
            raise no_column(config.text_column, table.column_names, f'dataset "{name}"')
        for batch in table.select_columns([config.text_column]).with_format("arrow").iter(_ROWS_A_BATCH):
            for chunk in batch.column(config.text_column).chunks:
                yield from texts(chunk, config.text_column, f'dataset "{name}"')

    own = "validation" in splits and config.split != "validation"
    return Splits(name, lambda: documents(config.split), (lambda: documents("validation")) if own else None)


def dataset_builder(name: str, revision: str, subset: str | None) -> Any:
    """What ``datasets`` builds the dataset with, or streams it. Raises DataError or HubError, or what the client does.

    Within ``hub_failures`` alone.
    """
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(name, subset, revision=revision)
    except ValueError:  # datasets' own for a subset that is not there, or that has to be named
        subsets = datasets.get_dataset_config_names(name, revision=revision)
        what = f'no subset "{subset}"' if subset else "several subsets"
        raise DataError(f'dataset "{name}" has {what}', f"--subset is one of {', '.join(subsets)}") from None
    if builder.hash != revision:  # the Hub failed, and datasets took another state from its cache
        what = f'the Hub did not give revision "{revision}" of dataset "{name}"'
        raise HubError(what, "run the command again later, or --revision names another")
    return builder


def no_split(name: str, split: str, splits: Iterable[str]) -> DataError:
    """The error for a split that is not there; it lists those that are."""
    return DataError(f'dataset "{name}" has no split "{split}"', f"--split is one of {', '.join(splits)}")


def _download(name: str, revision: str, data_files: Mapping[str, list[str]]) -> None:
    """Bring the data into the Hub's cache, each file compared with its sum, where ``datasets`` finds it."""
    place = f"hf://datasets/{name}@{revision}/"
    listed = {file.removeprefix(place) for files in data_files.values() for file in files if file.startswith(place)}
    download_files(name, revision, listed, is_dataset=True)
