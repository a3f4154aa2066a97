import hashlib
from pathlib import Path

import numpy as np
import pytest

from gemmazero.data.shard_writer import Shard, ShardWriter
from gemmazero.errors import DataError

DOCUMENTS = [[*range(1, length), 0] for length in (3, 9, 2, 2, 30, 1, 5, 8)]


def tokens(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.bin")}


def write(folder: Path, documents: list[list[int]], block: int, finished: list[Shard]) -> list[Shard]:
    """The files that were finished, in blocks of so many documents."""
    shards = list(finished)
    with ShardWriter(folder, "train", 100, finished=finished, tokens_a_file=8) as writer:
        for start in range(0, len(documents), block):
            some = documents[start : start + block]
            shards += writer.append(np.concatenate(some), len(some))
        assert writer.documents == len(documents) + (finished[-1].documents_before if finished else 0)
    return shards


def test_files_are_full_and_named_by_their_content(tmp_path: Path) -> None:
    shards = write(tmp_path, DOCUMENTS, 1, [])
    total = sum(map(len, DOCUMENTS))
    assert len(shards) == total // 8
    for number, shard in enumerate(shards):
        data = (tmp_path / shard.name).read_bytes()
        assert shard.name == f"train-{number:05d}.bin"
        assert (shard.bytes, shard.sha256) == (16, hashlib.sha256(data).hexdigest()) == (len(data), shard.sha256)
    whole = b"".join(data for _, data in sorted(tokens(tmp_path).items()))
    assert np.frombuffer(whole, "<u2").tolist() == np.concatenate(DOCUMENTS).tolist()


@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize("then", [1, 2, 8])
def test_who_goes_on_after_any_finished_file_writes_the_same(block: int, then: int, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    shards = write(tmp_path / "whole", DOCUMENTS, block, [])
    for kept in range(1, len(shards) + 1):
        folder = tmp_path / f"{kept}"
        folder.mkdir()
        for shard in shards[:kept]:
            (folder / shard.name).write_bytes((tmp_path / "whole" / shard.name).read_bytes())
        last = shards[kept - 1]
        assert last.tokens_before == sum(map(len, DOCUMENTS[: last.documents_before])) <= 8 * kept
        write(folder, DOCUMENTS[last.documents_before :], then, shards[:kept])
        assert tokens(folder) == tokens(tmp_path / "whole")


def test_id_beyond_the_vocabulary_is_not_written(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", 100) as writer, pytest.raises(DataError, match="beyond its 100 ids"):
        writer.append(np.array([1, 100]), 1)
    assert tokens(tmp_path) == {}
