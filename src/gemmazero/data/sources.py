"""Documents from the Hub, JSON Lines, Parquet, plain text and the built-in corpus."""

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.sample import stories
from gemmazero.errors import DataError, GemmaZeroError, HubError, UsageError
from gemmazero.hub import hub_failures, resolve_dataset
from gemmazero.regular_file import open_regular

Documents = Callable[[], Iterator[str | None]]
"""Reads a split from its beginning, each time it is called; None stands for a document that is not valid Unicode."""

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_VALIDATION = re.compile(r"(validation|valid|val)(?![a-z])", re.IGNORECASE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_HUB_ROWS_A_BATCH = 1024
_ROWS_A_BATCH = 16  # a dictionary of one long text can make every row of it as long
_UNSUSPICIOUS, _LARGEST_EXPANSION = 2**26, 100  # bytes of a row group, and how many times its compressed ones
_LONGEST_LINE, _MOST_BRACKETS = 2**24, 2**20  # bytes of JSON, and the objects and lists they can hold
_COLUMNS_TOLD = 50
_WHAT_IS_READ = "name a .txt, .jsonl or .parquet file, a folder of them, a Hub dataset id, or sample"


@dataclass(frozen=True)
class Splits:
    """The documents of a source: its training text, and its own validation split where it has one."""

    name: str
    training: Documents
    validation: Documents | None = None


@dataclass(frozen=True)
class Source:
    """Where documents come from.

    ``name`` is the same on every machine: a Hub id, ``sample``, or the last part of a path. ``revision`` pins the
    content: a Hub commit, or the SHA-256 of local files and their names. ``load`` downloads what is not here yet.
    """

    name: str
    revision: str | None
    load: Callable[[], Splits]


def open_source(source: str, config: PrepareConfig) -> Source:
    """The source that ``source`` names: ``sample``, else a path that exists, else a Hub dataset id.

    A folder is read with its sub-folders, in the order of its paths; what is called ``validation…``, ``valid…`` or
    ``val…``, file or sub-folder, is its validation split. Raises DataError where there is nothing to read, UsageError
    where nothing or an option of another kind of source is named, HubError where the Hub does not answer.
    """
    if source == "":
        raise UsageError("the source must not be empty", _WHAT_IS_READ)
    path = Path(source)
    if source == "sample":
        _refuse_hub_options(source, config)
        return Source("sample", None, lambda: Splits("sample", lambda: stories(config.seed)))
    with _reading(path):
        exists = path.exists()
    if exists:
        _refuse_hub_options(source, config)
        return _open_local(path, config.text_column)
    if not _HUB_ID.fullmatch(source) or path.suffix.lower() in _READERS:
        raise DataError(f'no such file or folder: "{source}"', _did_you_mean(path) or _WHAT_IS_READ)
    try:
        revision = resolve_dataset(source, config.revision)
    except GemmaZeroError as error:
        hint = "; ".join(filter(None, [_did_you_mean(path), error.hint]))
        raise type(error)(f'no file or folder "{source}" here, and {error.message}', hint) from error
    return Source(source, revision, lambda: _load_from_hub(source, revision, config))


def without_endings(name: str) -> str:
    """``name`` without the endings of the formats that are read: ``stories.jsonl`` → ``stories``."""
    path = Path(name)
    return path.stem if path.suffix.lower() in _READERS else name


def _refuse_hub_options(source: str, config: PrepareConfig) -> None:
    asked = {"--subset": config.subset, "--revision": config.revision}
    asked["--split"] = None if config.split == "train" else config.split
    for option, value in asked.items():
        if value is not None:
            raise UsageError(f'{option} "{value}" is for Hub datasets, and "{source}" is none', f"leave {option} out")


def _did_you_mean(path: Path) -> str:
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, [*siblings, "sample"], n=1)
    return f'did you mean "{path.with_name(close[0])}"?' if close else ""


def _open_local(path: Path, column: str) -> Source:
    files = _readable_files(path) if path.is_dir() else [path]
    unreadable = [file for file in files if file.suffix.lower() not in _READERS]
    if unreadable or not files:
        what = f'"{path}" is of no known kind' if unreadable else f'no text files in "{path}"'
        raise DataError(what, f"the files that can be read are {', '.join(sorted(_READERS))}")
    held_out = [file for file in files if path.is_dir() and _is_validation(file.relative_to(path))]
    training = [file for file in files if file not in held_out]
    if not training:
        raise DataError(
            f'"{path}" holds validation files only', f"gemmazero prepare {held_out[0]} takes one for training"
        )
    name = path.resolve().name
    splits = Splits(
        name, lambda: _read_files(training, column), (lambda: _read_files(held_out, column)) if held_out else None
    )
    return Source(name, _fingerprint(path, files), lambda: splits)


def _readable_files(folder: Path) -> list[Path]:
    try:
        files = [file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in _READERS]
    except RecursionError:
        raise DataError(f'the folders in "{folder}" are too deep within each other', _WHAT_IS_READ) from None
    visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    return sorted(visible, key=lambda file: file.relative_to(folder).as_posix())


def _is_validation(relative: Path) -> bool:
    return any(_VALIDATION.match(part) for part in relative.parts)


def _fingerprint(path: Path, files: list[Path]) -> str:
    """SHA-256 over the files' contents and, in a folder, their names, which decide order and split."""
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.suffix
        with _reading(file), open_regular(file) as stream:
            total.update(f"{name}\n{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _read_files(files: list[Path], column: str) -> Iterator[str | None]:
    for file in files:
        with _reading(file):
            yield from _READERS[file.suffix.lower()](file, column)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f'cannot read "{path}": {error.strerror or error}', "check the path and its rights") from error


def _read_text(path: Path, _column: str) -> Iterator[str | None]:
    """The whole file is one document. A byte order mark is no text; line endings stay as they are."""
    with open_regular(path) as file:
        yield _decoded(file.read().removeprefix(_BYTE_ORDER_MARK))


def _read_json_lines(path: Path, column: str) -> Iterator[str | None]:
    with open_regular(path) as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE + 1), b""), 1):
            if len(line) > _LONGEST_LINE or line.count(b"[") + line.count(b"{") > _MOST_BRACKETS:
                raise DataError(f'line {number} of "{path}" holds too much', "put each document on a line of its own")
            text = _decoded(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)
            if text is None:
                yield None
            elif text.strip():
                yield _document_of_line(text, column, f'line {number} of "{path}"')


def _document_of_line(line: str, column: str, where: str) -> str | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", "one JSON object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object", f'one a line, such as {{"{column}": "Once upon a time"}}')
    if column not in record:
        raise _no_column(column, list(record), where)
    text = record[column] if record[column] is not None else ""
    if not isinstance(text, str):
        kind = {dict: "an object", list: "a list", bool: "true or false"}.get(type(text), "a number")
        raise DataError(f'"{column}" in {where} is not text: {kind}', "--text-column names another")
    return text if _is_unicode(text) else None


def _read_parquet(path: Path, column: str) -> Iterator[str | None]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise _no_column(column, file.schema_arrow.names, f'"{path}"')
            _refuse_bomb(path, column, file.metadata)
            for batch in file.iter_batches(_ROWS_A_BATCH, columns=[column]):
                yield from _texts(batch.column(column), column, f'"{path}"')
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(f'cannot read "{path}": {error}', "copy it again from where it came from") from error


def _refuse_bomb(path: Path, column: str, metadata: Any) -> None:
    """Raises DataError where a row group says that it grows, as it is read, as no text does."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for chunk in (group.column(place) for place in range(group.num_columns)):
            compressed, whole = chunk.total_compressed_size, chunk.total_uncompressed_size
            if chunk.path_in_schema == column and whole > max(_UNSUSPICIOUS, _LARGEST_EXPANSION * compressed):
                what = f'"{column}" in "{path}" grows from {compressed} to {whole} bytes'
                raise DataError(what, "write it again without compression, if that is meant")


_READERS: dict[str, Callable[[Path, str], Iterator[str | None]]] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}


def _load_from_hub(name: str, revision: str, config: PrepareConfig) -> Splits:
    """Download the dataset, or find it in the Hub's cache, where an interrupted download goes on by file."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    with hub_failures(f'dataset "{name}"'):
        try:
            builder = datasets.load_dataset_builder(name, config.subset, revision=revision)
        except ValueError:  # datasets' own for a subset that is not there, or that has to be named
            subsets = datasets.get_dataset_config_names(name, revision=revision)
            what = f'no subset "{config.subset}"' if config.subset else "several subsets"
            raise DataError(f'dataset "{name}" has {what}', f"--subset is one of {', '.join(subsets)}") from None
        if builder.hash != revision:  # the Hub failed, and datasets took another state from its cache
            what = f'the Hub did not give revision "{revision}" of dataset "{name}"'
            raise HubError(what, "run the command again later, or --revision names another")
        builder.download_and_prepare()
    splits = list(builder.info.splits)
    if config.split not in splits:
        raise DataError(f'dataset "{name}" has no split "{config.split}"', f"--split is one of {', '.join(splits)}")

    def documents(split: str) -> Iterator[str | None]:
        table = builder.as_dataset(split)
        if config.text_column not in table.column_names:
            raise _no_column(config.text_column, table.column_names, f'dataset "{name}"')
        for batch in table.select_columns([config.text_column]).with_format("arrow").iter(_HUB_ROWS_A_BATCH):
            for chunk in batch.column(config.text_column).chunks:
                yield from _texts(chunk, config.text_column, f'dataset "{name}"')

    own = "validation" in splits and config.split != "validation"
    return Splits(name, lambda: documents(config.split), (lambda: documents("validation")) if own else None)


def _texts(values: Any, column: str, where: str) -> Iterator[str | None]:
    """The texts of an Arrow array. Read as bytes, because Arrow does not promise that its strings are valid UTF-8."""
    from pyarrow import large_binary, types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    if not any(is_kind(values.type) for is_kind in kinds):
        raise DataError(f'column "{column}" of {where} holds {values.type}, not text', "--text-column names another")
    for value in values.cast(large_binary()).to_pylist():
        yield _decoded(value or b"")


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_unicode(text: str) -> bool:
    """JSON can spell half a surrogate pair, which no UTF-8 can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _no_column(column: str, columns: list[str], where: str) -> DataError:
    return DataError(
        f'no column "{column}" in {where}', f"--text-column is one of {', '.join(columns[:_COLUMNS_TOLD])}"
    )
