"""Parquet → documents: a row a document. And the texts of any Arrow array, wherever it comes from."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from gemmazero.data.compression import most_unpacked
from gemmazero.data.documents import Layout, decoded, no_column
from gemmazero.errors import DataError

_BUFFER = 2**20
_ROWS_A_BATCH = 16  # a dictionary of one long text can make every row of it as long


def read_parquet(file: BinaryIO, where: str, layout: Layout) -> Iterator[str | None]:
    """The text of each row; null is empty. ``file`` must be able to seek. Raises DataError."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as table:  # else it holds a row group at once
            names = table.schema_arrow.names
            if layout.column not in names:
                raise no_column(layout.column, names, where)
            if names.count(layout.column) > 1:
                raise DataError(f'{where} has more than one column "{layout.column}"', "rename all but one of them")
            _refuse_bomb(where, layout.column, table.metadata)
            for batch in table.iter_batches(_ROWS_A_BATCH, columns=[layout.column]):
                yield from texts(batch.column(layout.column), layout.column, where)
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(f"cannot read {where}: {error}", "copy it again from where it came from") from error


def texts(values: Any, column: str, where: str) -> Iterator[str | None]:
    """The texts of an Arrow array. Read as bytes, because Arrow does not promise that its strings are valid UTF-8.

    Raises DataError where ``values`` are no texts.
    """
    from pyarrow import large_binary, types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_null)
    if not any(is_kind(values.type) for is_kind in kinds):
        raise DataError(f'column "{column}" of {where} holds {values.type}, not text', "--text-column names another")
    for value in values.cast(large_binary()).to_pylist():
        yield decoded(value or b"")


def _refuse_bomb(where: str, column: str, metadata: Any) -> None:
    """Raises DataError where a row group says that it grows, as it is read, as no text does."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for chunk in (group.column(place) for place in range(group.num_columns)):
            compressed, whole = chunk.total_compressed_size, chunk.total_uncompressed_size
            if chunk.path_in_schema == column and whole > most_unpacked(compressed):
                what = f'"{column}" in {where} grows from {compressed} to {whole} bytes'
                raise DataError(what, "write it again without compression, if that is meant")
