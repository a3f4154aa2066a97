"""Encoders: documents → token ids, block by block and in order, in this process or in several."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from gemmazero.errors import DataError, GemmaZeroError

Item = TypeVar("Item")
Encode = Callable[[Sequence[str]], NDArray[Any]]
Parts = Sequence[Sequence[str]]

CHARACTERS_ALONE = 2**22
_BLOCKS_AHEAD = 3  # a process encodes one, sends the one before, and has the next one waiting
_CHARACTERS_AHEAD = 2**26  # in all, or one block: long documents are not held many at once


class Encoders:
    """``encode`` on many blocks of documents, in ``processes`` processes where those are two or more.

    They are started after the first ``alone`` characters, as a small text needs none; and as programs of their own,
    because ``multiprocessing`` would run the caller's script again unless it guards itself. Each has a socket that
    nobody else holds, and ends with whatever closes it, this process's death by SIGKILL included; a terminal's signals
    do not reach it.
    """

    def __init__(self, encode: Encode, processes: int, *, alone: int = CHARACTERS_ALONE) -> None:
        self._encode, self._processes, self._alone = encode, processes, alone
        self._running = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def encoded(self, blocks: Iterable[tuple[Item, Parts]]) -> Iterator[tuple[Item, list[NDArray[Any]]]]:
        """Each block's item, and the ids of each of its parts, in the order of ``blocks``.

        A few blocks a process are read ahead. Raises what ``encode`` raises; DataError where a process dies.
        """
        left, read = iter(blocks), 0
        while self._processes < 2 or read < self._alone:
            if (block := next(left, None)) is None:
                return
            item, parts = block
            read += _characters(parts)
            yield item, self._encode_here(parts)
        yield from self._encoded_elsewhere(left)

    def _encoded_elsewhere(self, blocks: Iterator[tuple[Item, Parts]]) -> Iterator[tuple[Item, list[NDArray[Any]]]]:
        if (first := next(blocks, None)) is None:
            return
        processes = self._start()
        waiting: deque[tuple[Item, int, Callable[[], list[NDArray[Any]]]]] = deque()
        ahead = turn = 0
        for item, parts in chain([first], blocks):
            size = _characters(parts)
            while waiting and (len(waiting) == _BLOCKS_AHEAD * len(processes) or ahead + size > _CHARACTERS_AHEAD):
                before, its_size, result = waiting.popleft()
                ahead -= its_size
                yield before, result()
            if not size and not any(parts):
                nothing = self._encode_here(parts)
                waiting.append((item, 0, lambda ids=nothing: ids))  # type: ignore[misc]
                continue
            process = processes[turn % len(processes)]
            process.send(parts)
            waiting.append((item, size, process.receive))
            ahead, turn = ahead + size, turn + 1
        for item, _, result in waiting:
            yield item, result()

    def _encode_here(self, parts: Parts) -> list[NDArray[Any]]:
        return [self._encode(part) for part in parts]

    def _start(self) -> list["_Process"]:
        processes = [self._running.enter_context(_Process()) for _ in range(self._processes)]
        for process in processes:
            process.send(self._encode)
        return processes


def _characters(parts: Parts) -> int:
    return sum(len(text) for part in parts for text in part)


class _Process:
    """A process that encodes what it is sent, in order. It is killed on leaving: it holds nothing of its own."""

    def __enter__(self) -> Self:
        self._connection, theirs = Pipe()
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-P", "-m", "gemmazero.data.encoders", str(theirs.fileno())]
        with theirs, self._talking():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | paths,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def send(self, message: Any) -> None:
        """Raises DataError where the process is dead."""
        with self._talking():
            self._connection.send(message)

    def receive(self) -> list[NDArray[Any]]:
        """The ids of the parts sent longest ago. Raises what ``encode`` raised, DataError where the process is dead."""
        with self._talking():
            result: list[NDArray[Any]] | GemmaZeroError = self._connection.recv()
        if isinstance(result, GemmaZeroError):
            raise result
        return result

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise DataError(
                "a process that tokenizes has ended before its work",
                "--workers 1 needs no other, and less memory",
            ) from error


def encode_for(connection: Connection) -> None:
    """The life of a process: it is sent ``encode``, and then parts, and sends their ids back."""
    encode: Encode = connection.recv()
    blocks: SimpleQueue[Parts] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, blocks), daemon=True).start()
    with suppress(OSError):  # nobody is there to read it
        while True:
            try:
                result: list[NDArray[Any]] | GemmaZeroError = [encode(part) for part in blocks.get()]
            except GemmaZeroError as error:
                result = error
            connection.send(result)


def _receive(connection: Connection, blocks: SimpleQueue[Parts]) -> None:
    """Take in what comes, so that its sender never waits while this process waits to be read; end with the sender."""
    with suppress(EOFError, OSError):
        while True:
            blocks.put(connection.recv())
    os._exit(0)


if __name__ == "__main__":
    encode_for(Connection(int(sys.argv[1])))
