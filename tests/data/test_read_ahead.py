import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from gemmazero.data.read_ahead import ReadAhead
from gemmazero.errors import DataError


def eventually(is_so: object) -> bool:
    """Whether ``is_so()`` becomes true; a thread may need its turn."""
    return any(is_so() or time.sleep(0.01) for _ in range(500))  # type: ignore[operator]


def threads() -> int:
    return sum(thread.name == "read ahead" for thread in threading.enumerate())


class Counted:
    """The whole numbers, and how many of them were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in count():
            self.taken += 1
            yield number


def test_items_come_in_their_order() -> None:
    reading = ReadAhead(iter(range(1000)), 3)
    assert [reading.take() for _ in range(1000)] == list(range(1000))
    reading.close()


def test_no_more_is_read_ahead_than_there_is_room_for() -> None:
    counted = Counted()
    reading = ReadAhead(iter(counted), 4)
    assert eventually(lambda: counted.taken == 4)
    assert not eventually_more(counted, 4)
    reading.take()
    assert eventually(lambda: counted.taken == 5)
    reading.close()


def eventually_more(counted: Counted, than: int) -> bool:
    time.sleep(0.05)
    return counted.taken > than


def test_error_is_raised_where_its_item_would_have_been_and_again() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise DataError("gone")

    reading = ReadAhead(items(), 8)
    assert [reading.take(), reading.take()] == [0, 1]
    for _ in range(2):
        with pytest.raises(DataError, match="gone"):
            reading.take()


def test_end_is_the_iterators() -> None:
    reading = ReadAhead(iter([1]), 2)
    assert reading.take() == 1
    with pytest.raises(StopIteration):
        reading.take()


def test_waiting_ends_with_the_item_or_with_the_time() -> None:
    is_open = threading.Event()

    def items() -> Iterator[int]:
        is_open.wait()
        yield 7

    reading = ReadAhead(items(), 1)
    assert not reading.wait(0.01)
    is_open.set()
    assert reading.wait(10)
    assert reading.take() == 7


@pytest.mark.parametrize("way", ["closed", "forgotten"])
def test_thread_ends_when_nobody_reads_any_more(way: str) -> None:
    before = threads()
    reading = ReadAhead(iter(Counted()), 2)
    reading.take()
    assert threads() == before + 1
    if way == "closed":
        reading.close()
    else:
        del reading
        gc.collect()
    assert eventually(lambda: threads() == before)


AT_THE_END = """
import time
import torch
from gemmazero.data.read_ahead import ReadAhead

def items():
    while True:
        yield torch.randn(1000, 1000) @ torch.randn(1000, 1000)

reading = ReadAhead(items(), 10**6)
reading.take()
"""


def test_process_ends_well_while_something_is_read() -> None:
    assert subprocess.run([sys.executable, "-c", AT_THE_END], check=False).returncode == 0


def test_thread_has_ended_when_it_is_closed() -> None:
    reading = ReadAhead(iter(Counted()), 4)
    thread = next(thread for thread in reversed(threading.enumerate()) if thread.name == "read ahead")
    reading.close()
    assert not thread.is_alive()


def test_who_takes_from_what_is_closed_learns_that_it_has_ended() -> None:
    reading = ReadAhead(iter([1, 2, 3]), 2)
    assert reading.take() == 1
    reading.close()
    assert reading.wait(0)
    with pytest.raises(StopIteration):
        reading.take()
