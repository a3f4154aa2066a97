import gzip
import os
from pathlib import Path

import pyarrow
import pytest
from reading import training

from gemmazero.data.compression import opened
from gemmazero.errors import DataError

TEXT = b"".join(b"%d once upon a time\n" % number for number in range(50_000))


def zstd(data: bytes) -> bytes:
    """One frame, by Arrow."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK = {".gz": gzip.compress, ".zst": zstd}


@pytest.mark.parametrize("ending", PACK)
def test_packed_file_reads_as_it_was(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"s.txt{ending}"
    file.write_bytes(PACK[ending](TEXT))
    assert training(file) == [TEXT.decode()]


@pytest.mark.parametrize("ending", PACK)
def test_frames_one_after_another_are_one_text(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"s.txt{ending.upper()}"
    file.write_bytes(PACK[ending](TEXT[:1000]) + PACK[ending](b"") + PACK[ending](TEXT[1000:]))
    assert training(file) == [TEXT.decode()]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("cut", [-1, -100, 10])
def test_truncated_file_is_told_by_its_name_and_is_never_half_a_text(tmp_path: Path, ending: str, cut: int) -> None:
    file = tmp_path / f"s.txt{ending}"
    file.write_bytes(PACK[ending](TEXT)[:cut])
    with pytest.raises(DataError, match=rf'cannot read ".*s.txt{ending}"') as error:
        training(file)
    assert "copy it again" in error.value.hint


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("content", [b"Once upon a time", b"\x00" * 100])
def test_file_that_is_not_packed_as_its_name_says_is_told(tmp_path: Path, ending: str, content: bytes) -> None:
    file = tmp_path / f"s.txt{ending}"
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        training(file)
    file.write_bytes(PACK[ending](TEXT) + b"more")
    with pytest.raises(DataError, match="cannot read"):
        training(file)


def test_flipped_bit_in_gzip_is_told(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(TEXT))
    data[len(data) // 2] ^= 1
    (tmp_path / "s.txt.gz").write_bytes(data)
    with pytest.raises(DataError, match="cannot read"):
        training(tmp_path / "s.txt.gz")


@pytest.mark.parametrize("ending", PACK)
def test_stream_within_reach_is_the_same(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"s{ending}").write_bytes(PACK[ending](TEXT))
    with opened(tmp_path / f"s{ending}", seekable=True) as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == TEXT[-5:]


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"), opened(tmp_path / "absent.gz"):
        pass
