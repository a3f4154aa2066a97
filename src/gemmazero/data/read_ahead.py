"""ReadAhead: the items of an iterator, made by a thread before they are asked for."""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

_LONGEST_GOODBYE = 5.0  # seconds: a source that does not answer is left alone

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Takes ``items`` in a thread, ``ahead`` of them at most before they are wanted, in their order.

    An error of the iterator is raised where the item would have been, each time it is asked for. ``close``, losing the
    last reference, or the interpreter's end lets the thread end after the item that it is at, and waits for it: a
    thread that is inside of a library as the interpreter goes would take the process down.
    """

    def __init__(self, items: Iterator[Item], ahead: int) -> None:
        self._shelf: _Shelf[Item] = _Shelf(ahead)
        thread = threading.Thread(target=_fill, args=(self._shelf, items), name="read ahead", daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _end, self._shelf, thread)
        """Let the thread end; who takes more, or waits for it, learns that this has ended."""

    def wait(self, seconds: float) -> bool:
        """Whether ``take`` would return, or raise, at once; it becomes true within ``seconds``, or not."""
        with self._shelf.changed:
            return self._shelf.changed.wait_for(lambda: bool(self._shelf.items or self._shelf.error), seconds)

    def take(self) -> Item:
        """The next item. Raises what the iterator raised, StopIteration where it has ended."""
        with self._shelf.changed:
            self._shelf.changed.wait_for(lambda: bool(self._shelf.items or self._shelf.error))
            if self._shelf.items:
                self._shelf.changed.notify_all()
                return self._shelf.items.popleft()
            assert self._shelf.error is not None
            raise self._shelf.error


class _Shelf(Generic[Item]):
    """What the thread and its owner share; the thread must not keep its owner alive."""

    def __init__(self, size: int) -> None:
        self.items: deque[Item] = deque()
        self.error: BaseException | None = None
        self.changed = threading.Condition()
        self.is_closed = False
        self.size = size

    def close(self) -> None:
        with self.changed:
            self.is_closed = True
            self.error = self.error or StopIteration()
            self.items.clear()
            self.changed.notify_all()


def _end(shelf: _Shelf[Any], thread: threading.Thread) -> None:
    shelf.close()
    if thread is not threading.current_thread():  # which may be the one that collects garbage
        thread.join(_LONGEST_GOODBYE)


def _fill(shelf: _Shelf[Item], items: Iterator[Item]) -> None:
    while True:
        with shelf.changed:
            shelf.changed.wait_for(lambda: shelf.is_closed or len(shelf.items) < shelf.size)
            if shelf.is_closed:
                return
        try:
            item = next(items)
        except BaseException as error:  # it is raised where the item is wanted
            with shelf.changed:
                shelf.error = error
                shelf.changed.notify_all()
            return
        with shelf.changed:
            if not shelf.is_closed:
                shelf.items.append(item)
                shelf.changed.notify_all()
