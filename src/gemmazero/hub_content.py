"""What a file holds, here or as the Hub lists it: the one comparison of the two."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self

_PIECE = 2**20  # bytes


@dataclass(frozen=True)
class Content:
    """What a file holds, by its size and by the sums that the Hub has of it: one's own file has both."""

    size: int
    sha256: str | None = None  # of a large object
    blob: str | None = None  # git's SHA-1 of a small one

    @classmethod
    def of(cls, data: bytes) -> Self:
        """That of bytes at hand."""
        return cls._read(BytesIO(data), len(data))

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """That of a file. Raises OSError."""
        with path.open("rb") as file:
            return cls._read(file, path.stat().st_size)

    @classmethod
    def told(cls, item: Any) -> Self:
        """That of a file as the Hub lists it."""
        lfs = item.lfs
        return cls(item.size, blob=item.blob_id) if lfs is None else cls(item.size, sha256=lfs.sha256)

    def matches(self, other: "Content") -> bool:
        """Whether both have a sum in common, and no other."""
        pairs = [(mine, yours) for mine, yours in ((self.sha256, other.sha256), (self.blob, other.blob))
                 if mine is not None and yours is not None]  # fmt: skip
        return self.size == other.size and bool(pairs) and all(mine == yours for mine, yours in pairs)

    @classmethod
    def _read(cls, file: BinaryIO, size: int) -> Self:
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        while piece := file.read(_PIECE):
            sha256.update(piece)
            blob.update(piece)
        return cls(size, sha256.hexdigest(), blob.hexdigest())
