"""What a case is: a good input spoilt in one way, and who is to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Spoil = Callable[[Path], None]
"""Makes a good file bad, or puts something else in its place."""


@dataclass(frozen=True)
class Case:
    """One hostile or broken input.

    ``part`` of the world is copied to a folder of its own, ``spoil`` is given ``file`` in it, and ``entry`` reads the
    part. It must refuse that; where ``is_harmless``, it may also make do.
    """

    name: str
    part: str
    file: str
    entry: str
    spoil: Spoil
    is_harmless: bool = False

    @property
    def id(self) -> str:
        """Unlike any other case's."""
        return f"{self.entry} {self.part}/{self.file}: {self.name}"


def bytes_of(content: bytes, *, times: int = 1, end: bytes = b"") -> Spoil:
    """Another content for the file: ``content`` so many times, and ``end``."""

    def spoil(file: Path) -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(content * times + end)

    return spoil


def made_by(make: Callable[[], Spoil]) -> Spoil:
    """A spoil that is made when it is needed: nothing large waits in memory."""
    return lambda file: make()(file)
