"""ShardWriter: the tokens of one split → its token files, each finished by itself."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from numpy.typing import NDArray

from gemmazero.data.shards import FileFacts, Split, token_dtype
from gemmazero.errors import DataError

TOKENS_A_FILE = 2**24


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A full token file that the disk holds.

    It ended within a block of documents. ``documents_before`` and ``tokens_before`` that block are all that who goes on
    with the next file may leave out.
    """

    name: str
    bytes: int
    sha256: str
    documents_before: int
    tokens_before: int


class ShardWriter:
    """Writes the tokens of one split: ``train-00000.bin``, ``train-00001.bin``, … of ``tokens_a_file`` ids each.

    A context manager; ``files`` is complete when it is left. ``finished`` are the files that are there already, the
    first ones; ``documents`` and ``tokens`` count what was appended, beginning with what the last of them lets us leave
    out: that is not to be appended again.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        vocab_size: int,
        *,
        finished: Sequence[Shard] = (),
        tokens_a_file: int = TOKENS_A_FILE,
    ) -> None:
        self.files = {shard.name: FileFacts(bytes=shard.bytes, sha256=shard.sha256) for shard in finished}
        self.documents = finished[-1].documents_before if finished else 0
        self.tokens = finished[-1].tokens_before if finished else 0
        self._folder, self._split, self._vocab_size, self._tokens_a_file = folder, split, vocab_size, tokens_a_file
        self._written = len(finished) * tokens_a_file
        self._dtype = token_dtype(vocab_size)
        self._file: BinaryIO | None = None

    def append(self, ids: NDArray[Any], documents: int) -> list[Shard]:
        """Write the ``ids`` of so many documents after those before; the files that are full now.

        Raises DataError for an id beyond the vocabulary.
        """
        if len(ids) and int(ids.max()) >= self._vocab_size:
            raise DataError(f"the tokenizer gave id {int(ids.max())}, beyond its {self._vocab_size} ids")
        left = ids[self._written - self.tokens :].astype(self._dtype, copy=False)  # the rest is written already
        finished = []
        while len(left):
            if self._file is None:
                self._open_next()
            room = self._tokens_a_file - self._written % self._tokens_a_file
            self._write(left[:room].tobytes())
            self._written += len(left[:room])
            left = left[room:]
            if self._written % self._tokens_a_file == 0:
                name, facts = self._finish()
                finished.append(Shard(
                    name=name, bytes=facts.bytes, sha256=facts.sha256,
                    documents_before=self.documents, tokens_before=self.tokens,
                ))  # fmt: skip
        self.documents += documents
        self.tokens += len(ids)
        return finished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        if error is None:
            self._finish()
        else:
            self._file.close()

    def _open_next(self) -> None:
        self._name = f"{self._split}-{len(self.files):05d}.bin"
        self._file = (self._folder / self._name).open("xb", buffering=0)
        self._sha256 = hashlib.sha256()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # an unbuffered write may take only a part
            written = cast(BinaryIO, self._file).write(view)
            self._sha256.update(view[:written])
            view = view[written:]

    def _finish(self) -> tuple[str, FileFacts]:
        with cast(BinaryIO, self._file) as file:
            self._file = None
            os.fsync(file.fileno())
            facts = FileFacts(bytes=file.tell(), sha256=self._sha256.hexdigest())
        self.files[self._name] = facts
        return self._name, facts
