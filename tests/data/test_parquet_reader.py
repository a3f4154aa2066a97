import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from reading import training

from gemmazero.errors import DataError


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary"])
def test_parquet_gives_its_text_in_order(tmp_path: Path, kind: str) -> None:
    texts = [f"text {number} é" for number in range(3000)]
    column = pyarrow.array(texts)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    table = pyarrow.table({"id": range(3000), "text": column})
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet", row_group_size=700)
    assert training(tmp_path / "s.parquet") == texts


def test_null_in_parquet_is_empty_text(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "s.parquet")
    assert training(tmp_path / "s.parquet") == ["a", ""]


def test_column_of_numbers_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "s.parquet")
    with pytest.raises(DataError, match="holds int64, not text"):
        training(tmp_path / "s.parquet")


def test_two_columns_of_the_name_are_refused_and_two_of_another_name_are_not(tmp_path: Path) -> None:
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["text", "more", "more"])
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet")
    assert training(tmp_path / "s.parquet") == ["a"]
    with pytest.raises(DataError, match='more than one column "more"') as caught:
        training(tmp_path / "s.parquet", text_column="more")
    assert caught.value.hint


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r'cannot read ".*s.parquet"'):
        training(tmp_path / "s.parquet")


def test_table_that_grows_as_no_text_does_is_refused(tmp_path: Path) -> None:
    for name, options in {"plain": {"use_dictionary": False}, "dictionary": {}}.items():
        table = pyarrow.table({"text": ["x" * 100_000_000]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet", compression="zstd", **options)
        with pytest.raises(DataError, match=r'"text" in ".*" grows from \d+ to 1000\d+ bytes'):
            training(tmp_path / f"{name}.parquet")


def test_well_compressed_table_is_read(tmp_path: Path) -> None:
    texts = [f"{number} once upon a time" for number in range(2000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "s.parquet", compression="zstd")
    assert training(tmp_path / "s.parquet") == texts


def test_packed_table_is_read_and_one_that_unpacks_as_no_table_does_is_not(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "s.parquet")
    (tmp_path / "s.parquet.gz").write_bytes(gzip.compress((tmp_path / "s.parquet").read_bytes()))
    assert training(tmp_path / "s.parquet.gz") == texts
    (tmp_path / "s.parquet.gz").write_bytes(gzip.compress(bytes(2**26 + 1), 1))
    with pytest.raises(DataError, match=r'cannot read ".*s.parquet.gz": it grows from \d+ to more than \d+ bytes'):
        training(tmp_path / "s.parquet.gz")


LARGE_ROW_GROUP = """
import resource, sys
from itertools import islice
from pathlib import Path
import pyarrow.parquet
from gemmazero.config import PrepareConfig
from gemmazero.data.sources import open_source

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
texts = open_source(sys.argv[1], PrepareConfig()).load().training()
assert sum(len(text) for text in islice(texts, 1000)) == 10_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_row_group_is_not_held_in_memory(tmp_path: Path) -> None:
    texts = [f"{number:010d}" * 1000 for number in range(20_000)]
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(
        table, tmp_path / "s.parquet", row_group_size=len(texts), compression="none", use_dictionary=False
    )
    command = [sys.executable, "-c", LARGE_ROW_GROUP, tmp_path / "s.parquet"]
    grown_kilobytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kilobytes < 100_000, "the row group has 200 MB"
