"""Ctrl-C, SIGTERM and SIGUSR1, from the first moment of the program: it imports nothing but the standard library."""

import contextlib
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn, Self

CTRL_C = "Ctrl-C"
NAMES: dict[int, str] = {signal.SIGINT: CTRL_C, signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}

_SHOW_CURSOR = "\x1b[?25h"


class Terminated(BaseException):
    """SIGTERM or SIGUSR1 ends the command, as KeyboardInterrupt is Ctrl-C doing so; its text is the signal's name."""


def install() -> None:
    """Let SIGTERM and SIGUSR1 end a command by an exception, as Python lets Ctrl-C.

    Process 1 needs it more than any other: there the system ignores a signal that has no handler.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _end_command)


def ignore() -> None:
    """Let no signal change an exit code that stands: the interpreter takes its time to end."""
    for number in NAMES:
        signal.signal(number, signal.SIG_IGN)


def exit_code(reason: str) -> int:
    """The exit code of a command that was stopped by a signal, or for another reason, such as ``--max-time 2h``."""
    return 130 if reason == CTRL_C else 75


def behind(error: BaseException | None) -> str:
    """The signal behind ``error``, or empty: an import that is interrupted may fail with an error of another kind."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | Terminated):
            return CTRL_C if isinstance(error, KeyboardInterrupt) else str(error)
        error = error.__cause__ or error.__context__
    return ""


def stopped_at_once(name: str) -> int:
    """Say that a signal ended the command, and how to do it again; returns the exit code, which stands."""
    ignore()
    say_at_once(f"stopped at once by {name}; to do it again:\n  {this_command()}")
    return exit_code(name)


def this_command() -> str:
    """The command line of this process, as it can be given again."""
    return f"gemmazero {shlex.join(sys.argv[1:])}"


def say_at_once(text: str) -> None:
    """Write a line to stderr, past every buffer, from anywhere: a signal handler, a thread, an early import.

    It begins on a new line, as ``^C`` may stand in the last one. Where nobody makes room for it, it is not said.
    """
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"\n{text}\n".encode(errors="surrogateescape"))


class TwoSignals:
    """While it is entered, the first signal ends the command, or asks; the second ends the process at once.

    A signal handler of Python's waits until the main thread is back from a long call into C. So a thread counts the
    signals as the system delivers them, and it is the thread that ends the process. A signal that the shell had set
    to be ignored, as it does for a command in the background, is heard all the same. On leaving, all is as before.
    """

    def __init__(self) -> None:
        self._first: Callable[[str], object] = _raise
        self._goes_on = f"to do it again:\n  {this_command()}"
        self._is_first = True
        self._has_the_word = threading.Lock()  # nothing is said after what the second signal has to say

    def ask(self, first: Callable[[str], object], goes_on: str) -> None:
        """From now on the first signal calls ``first`` with its name, in the main thread, and ends nothing.

        ``goes_on`` is the command that is told after a second one.
        """
        self._first, self._goes_on = first, f"to go on from the last checkpoint:\n  {goes_on}"

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in NAMES}
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._writer_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._count, args=(reader,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._writer_before)
        os.close(self._writer)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_first:
            self._is_first = False
            with self._has_the_word:
                self._first(NAMES[number])

    def _count(self, reader: int) -> None:
        """Read the number of each signal, until the second one or until the writing end is closed."""
        names: list[str] = []
        while numbers := os.read(reader, 1):
            if numbers[0] in NAMES:
                names.append(NAMES[numbers[0]])
            if len(names) == 2:
                self._has_the_word.acquire()
                cursor = _SHOW_CURSOR if os.isatty(2) else ""
                say_at_once(f"{cursor}stopped at once by {names[-1]}; {self._goes_on}")
                os._exit(exit_code(names[-1]))
        os.close(reader)


def _end_command(number: int, _frame: FrameType | None) -> None:
    _raise(NAMES[number])


def _raise(name: str) -> NoReturn:
    raise KeyboardInterrupt if name == CTRL_C else Terminated(name)
