"""What goes wrong with a request to the loopback Hub, when it is told to."""

import random
import re
import threading
from dataclasses import dataclass, field
from typing import Literal

Do = Literal["status", "reset", "hang", "truncate", "corrupt", "half_read", "expire", "die"]
When = Literal["before", "after"]


@dataclass
class Fault:
    """What happens to requests whose "METHOD /path" matches.

    Args:
        do: ``status`` refuses with it; ``reset`` drops the connection; ``hang`` is silent for ``seconds``, then drops
            it; ``truncate`` sends half of the answer; ``corrupt`` flips a bit of it; ``half_read`` drops it with half
            of the upload read; ``expire`` kills the token, then goes on; ``die`` drops it, and every connection of the
            next ``seconds``.
        pattern: searched in "METHOD /path".
        times: how often it happens; -1 is for ever.
        skip: so many are let pass first.
        when: ``after`` is when the request was carried out, and nobody told.
        chance: that it happens at all, each time.
        status: of the refusal, with ``message`` and ``headers``.
    """

    do: Do
    pattern: str
    times: int = 1
    skip: int = 0
    when: When = "before"
    chance: float = 1.0
    status: int = 503
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.5
    hits: int = 0


class Faults:
    """Those in force; the first that matches and has hits left is taken. ``seed`` decides what chance decides."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Put it in force, and give it back to be looked at."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let nothing go wrong from here on."""
        with self._lock:
            self._faults.clear()

    def of(self, request: str) -> Fault | None:
        """What goes wrong with this request, counted."""
        with self._lock:
            for fault in self._faults:
                if not re.search(fault.pattern, request) or fault.times == 0 or self._chance.random() >= fault.chance:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.hits += 1
                return fault
        return None
