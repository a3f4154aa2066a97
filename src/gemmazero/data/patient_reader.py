"""PatientReader: a source's documents, epoch after epoch, from any place on; it waits for a source that is away."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gemmazero.data.sources import Documents
from gemmazero.errors import DataError, GemmaZeroError, HubError

PATIENCE_SECONDS = 3600.0
LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """Where a document stands: in epoch ``epoch``, after ``document`` others of the source's part ``part``."""

    epoch: int = 0
    part: int = 0
    document: int = 0


class PatientReader:
    """Reads the parts of a source one after the other, and then the first one again.

    Where a part cannot be reached, it is opened again after 1, 2, 4, … seconds, a minute at most, and read to where it
    broke off; ``away`` says why until then. Any other thread may call ``close``.

    Args:
        parts: opens the source: its parts, each of which reads from its beginning.
        patience: seconds of waiting in a row after which the error is raised.
    """

    def __init__(self, parts: Callable[[], Sequence[Documents]], patience: float = PATIENCE_SECONDS) -> None:
        self.away = ""
        self._open, self._patience = parts, patience
        self._closed = threading.Event()

    def documents(self, place: Place) -> Iterator[tuple[Place, str | None]]:
        """Each document from ``place`` on, and its place; None for one that is not valid Unicode, or an epoch's end.

        It ends when the reader is closed. Raises GemmaZeroError for what waiting does not mend.
        """
        failed, waited = 0, 0.0
        while not self._closed.is_set():
            try:
                for here, text in self._rest_of_epoch(place):
                    failed, waited, self.away = 0, 0.0, ""
                    yield here, text
                    place = replace(here, document=here.document + 1)
                place = Place(place.epoch + 1)
            except GemmaZeroError as error:
                seconds = min(2.0**failed, LONGEST_WAIT_SECONDS)
                failed, waited = failed + 1, waited + seconds
                if not _may_pass(error) or waited > self._patience:
                    raise
                self.away = f"{error.message}; tried again in {seconds:.0f} s"
                self._closed.wait(seconds)
            else:
                yield place, None

    def close(self) -> None:
        """Wait for nothing any more."""
        self._closed.set()

    def _rest_of_epoch(self, place: Place) -> Iterator[tuple[Place, str | None]]:
        for part, documents in enumerate(self._open()):
            if part < place.part:
                continue
            first = place.document if part == place.part else 0
            for number, text in enumerate(documents()):
                if self._closed.is_set():
                    return
                if number >= first:
                    yield Place(place.epoch, part, number), text


def _may_pass(error: GemmaZeroError) -> bool:
    """Whether the source may be there again later: the Hub was in trouble, or the system refused to read a file."""
    cause = error.__cause__
    if isinstance(error, HubError):
        return error.kind in ("unreachable", "damaged", "unknown")
    return isinstance(error, DataError) and isinstance(cause, OSError) and cause.errno is not None
