"""How long something may take, as a user writes it: ``90s``, ``15m``, ``2h``."""

import re

from gemmazero.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(duration: str, *, option: str) -> float:
    """The seconds that ``duration`` stands for. Raises UsageError, naming the ``option``, where it stands for none."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", duration)
    if match is None or not float(match[1]):
        raise UsageError(f'{option} must be a time such as 90s, 15m or 2h, not "{duration}"', f"{option} 15m")
    return float(match[1]) * _SECONDS[match[2]]
