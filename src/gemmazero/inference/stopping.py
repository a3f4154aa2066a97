"""Stop texts: text in pieces → the text before the first of them, in pieces."""

from collections.abc import Sequence

from gemmazero.errors import UsageError


class StopScanner:
    """Lets text through, up to the stop text that is complete first.

    What may be the beginning of a stop text is held back until it is known; so the pieces let through, joined, do not
    depend on how the text was cut into pieces. A string is one stop text. Raises UsageError for an empty one.
    """

    def __init__(self, stop: str | Sequence[str]) -> None:
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if "" in self._stop:
            raise UsageError("--stop must not be empty", "leave it out to write on to the end")
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """The text that this piece makes certain; "" after a stop text was found."""
        if self.found:
            return ""
        text = self._held + text
        places = [(place + len(stop), place) for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)[1]]
        certain = len(text) - max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What was held back: no stop text can come any more."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are a beginning of ``stop``."""
    longest = min(len(text), len(stop))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
