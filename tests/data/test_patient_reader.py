import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from threading import Thread

import pytest

from gemmazero.data import patient_reader
from gemmazero.data.patient_reader import PatientReader, Place
from gemmazero.data.sources import Documents
from gemmazero.errors import DataError, HubError, HubFailure

PARTS = [["a", "b", None], [], ["c", "d"]]


def parts(texts: Sequence[Sequence[str | None]] = PARTS) -> Callable[[], list[Documents]]:
    return lambda: [lambda part=part: iter(part) for part in texts]  # type: ignore[misc]


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_reader, "LONGEST_WAIT_SECONDS", 0.01)


EPOCH = [
    (Place(0, 0, 0), "a"),
    (Place(0, 0, 1), "b"),
    (Place(0, 0, 2), None),
    (Place(0, 2, 0), "c"),
    (Place(0, 2, 1), "d"),
    (Place(1, 0, 0), None),
]


def test_parts_are_read_one_after_the_other_and_then_again() -> None:
    read = list(islice(PatientReader(parts()).documents(Place()), 9))
    assert read[:6] == EPOCH
    assert read[6:] == [(Place(1, 0, number), text) for number, text in enumerate(["a", "b", None])]


def test_reading_from_a_place_gives_what_follows_it() -> None:
    whole = list(islice(PatientReader(parts()).documents(Place()), 20))
    for number, (place, _) in enumerate(whole[:12]):
        if number and whole[number - 1] == (place, None):  # an epoch's end stands where the next one begins
            number -= 1
        read = list(islice(PatientReader(parts()).documents(place), 5))
        follow = whole[number:]
        assert read == (follow[1:] if follow[0] == (place, None) and place.document == 0 else follow)[:5]


class Fragile:
    """Gives ten documents, and fails before each of those in ``breaks``, once each."""

    def __init__(self, breaks: Sequence[int], error: Exception) -> None:
        self.breaks, self.error, self.opened = list(breaks), error, 0

    def __call__(self) -> Iterator[str]:
        self.opened += 1
        for number in range(10):
            if self.breaks and self.breaks[0] == number:
                self.breaks.pop(0)
                raise self.error
            yield str(number)


def unreadable() -> DataError:
    error = DataError("cannot read it")
    error.__cause__ = OSError(5, "Input/output error")
    return error


@pytest.mark.parametrize("error", [HubError("the Hub is away"), unreadable()], ids=["hub", "disk"])
def test_source_that_breaks_off_is_read_on_where_it_did(error: Exception) -> None:
    source = Fragile([0, 3, 3, 9], error)
    reader = PatientReader(lambda: [source])
    read = [text for _, text in islice(reader.documents(Place()), 11)]
    assert read == [*map(str, range(10)), None]
    assert source.opened == 5
    assert reader.away == ""


def test_patience_ends() -> None:
    reader = PatientReader(lambda: [Fragile([0] * 100, HubError("the Hub is away"))], patience=0.1)
    with pytest.raises(HubError, match="the Hub is away"):
        next(reader.documents(Place()))


def test_what_waiting_does_not_mend_is_an_error_at_once() -> None:
    source = Fragile([1], DataError("line 2 is not JSON"))
    documents = PatientReader(lambda: [source]).documents(Place())
    next(documents)
    with pytest.raises(DataError, match="line 2"):
        next(documents)
    assert source.opened == 1


@pytest.mark.parametrize("kind", ["refused", "absent"])
def test_refusal_of_the_hub_is_not_waited_for(kind: HubFailure) -> None:
    fragile = Fragile([3], HubError("the token has expired", kind=kind))
    with pytest.raises(HubError, match="expired"):
        list(PatientReader(lambda: [fragile]).documents(Place()))
    assert fragile.opened == 1


def test_wait_is_told_and_closing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_reader, "LONGEST_WAIT_SECONDS", 600.0)
    reader = PatientReader(lambda: [Fragile([0] * 100, HubError("the Hub is away"))])
    read: list[object] = []
    thread = Thread(target=lambda: read.extend(reader.documents(Place())))
    thread.start()
    while not reader.away:
        time.sleep(0.01)
    assert reader.away == "the Hub is away; tried again in 1 s"
    reader.close()
    thread.join(30)
    assert not thread.is_alive()
    assert read == []
