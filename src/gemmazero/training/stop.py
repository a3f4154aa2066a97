"""The wish to stop: one flag and one clock, asked once a step."""

import math
import time


class Stop:
    """Set from anywhere, a signal handler included, or by the clock; the loop asks after each step."""

    def __init__(self) -> None:
        self._asked = ""
        self._end, self._late = math.inf, ""

    @property
    def reason(self) -> str:
        """Why to stop; empty while there is no reason to. The first one counts, and stays."""
        if time.monotonic() >= self._end:
            self.request(self._late)
        return self._asked

    def request(self, reason: str) -> None:
        """Ask to stop as soon as nothing is lost by it."""
        self._asked = self._asked or reason

    def after(self, seconds: float, reason: str) -> None:
        """Ask to stop when ``seconds`` from now have passed."""
        self._end, self._late = time.monotonic() + seconds, reason
