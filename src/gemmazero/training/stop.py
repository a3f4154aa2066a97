"""The wish to stop: one flag, asked once a step."""


class Stop:
    """Set from anywhere, a signal handler included; the loop asks after each step."""

    def __init__(self) -> None:
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask the run to stop after the current step; the first reason counts."""
        self.reason = self.reason or reason
