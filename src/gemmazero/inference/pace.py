"""How fast tokens came: the first waits for the prompt to be read, the second maybe for a compiler."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Tokens written, and how long that took."""

    tokens: int
    first_token_seconds: float
    """From the beginning to the first token."""
    second_token_seconds: float
    seconds: float
    """From the beginning to the last token."""

    @property
    def tokens_per_second(self) -> float:
        """Of all tokens, the reading of the prompt included."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def steady_tokens_per_second(self) -> float:
        """Of the tokens after the second; 0 where there are none."""
        seconds = self.seconds - self.second_token_seconds
        return (self.tokens - 2) / seconds if seconds > 0 else 0.0


class Stopwatch:
    """Runs from its making; ``count`` it at each token."""

    def __init__(self) -> None:
        self._start = self._first = self._second = self._last = time.perf_counter()
        self._tokens = 0

    def count(self) -> None:
        """One more token is there."""
        self._last = time.perf_counter()
        self._tokens += 1
        if self._tokens == 1:
            self._first = self._last
        if self._tokens <= 2:
            self._second = self._last

    def pace(self) -> Pace:
        """What it has measured up to the last token."""
        first, second, last = (at - self._start for at in (self._first, self._second, self._last))
        return Pace(self._tokens, first, second, last)
