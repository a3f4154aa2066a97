"""A run's data folder: found where it is, or prepared, or prepared again."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from gemmazero.config import DataReference, PrepareConfig
from gemmazero.data.prepare import PrepareEvent, default_folder, preparing
from gemmazero.data.shards import MANIFEST
from gemmazero.errors import DataError


def prepared(source: str) -> Generator[PrepareEvent, None, Path]:
    """``source`` where it is a data folder, else the one that it is prepared into."""
    if (Path(source) / MANIFEST).is_file():
        return Path(source)
    yield from preparing(source, None, PrepareConfig())
    return default_folder(source)


def prepared_again(given: str | None, recorded: DataReference) -> Generator[PrepareEvent, None, Path]:
    """Where the run's data is: ``given`` is a data folder or the source; prepared again where its folder is gone."""
    data = Path(given or recorded.folder)
    if given is not None and not (data / MANIFEST).is_file():
        data = default_folder(given).absolute()
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
