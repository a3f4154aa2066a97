"""Turns → the ids a model reads: as a chat in Gemma's template, or as one story."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gemmazero.data.tokenizer import Tokenizer

Mode = Literal["chat", "story"]

_CLOSING = (".", ",", ";", ":", "!", "?", "…", ")")  # text that begins so belongs to the word before it


@dataclass(frozen=True)
class Exchange:
    """What a user said and what the model replied."""

    user: str
    reply: str
    reply_ids: tuple[int, ...]
    """As the model wrote it, which need not be how the tokenizer spells it; the end token included, if it came."""


@dataclass(frozen=True)
class Prompt:
    """What a model reads before it replies."""

    ids: list[int]
    forgotten: int
    """How many of the oldest exchanges are not in it, or not whole."""


class ChatTemplate:
    """Gemma's: <start_of_turn>, the role, a line break, the text trimmed, <end_of_turn>, a line break.

    There is no system role: a system text stands before the first user text, an empty line between. Special tokens'
    text in a turn stays text.

    Args:
        tokenizer: one that has the turn tokens.
    """

    mode: Mode = "chat"

    def __init__(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.turn_ids is not None
        self._tokenizer = tokenizer
        self._start, self._end = tokenizer.turn_ids
        self._heading = tokenizer.encode("model\n")
        self._line_break = tokenizer.encode("\n")

    def prompt(self, system: str, exchanges: Sequence[Exchange], user: str, room: int) -> Prompt:
        """Everything up to where the reply to ``user`` begins.

        The oldest exchanges are left out until it fits into ``room`` ids, or nothing but ``user`` is left.
        """

        def fits(forgotten: int) -> bool:
            return len(self._ids(system, exchanges[forgotten:], user)) <= room

        everything = range(len(exchanges))
        forgotten = 0 if fits(0) else bisect_left(everything, True, key=fits)  # the less of it, the better it fits
        return Prompt(self._ids(system, exchanges[forgotten:], user), forgotten)

    def reply_ids(self, reply: str) -> tuple[int, ...]:
        """The ids of a reply of which only the text is known."""
        return tuple(self._tokenizer.encode(reply.strip()))

    def _ids(self, system: str, exchanges: Sequence[Exchange], user: str) -> list[int]:
        ids = self._tokenizer.encode_prompt("")
        for exchange in exchanges:
            written = [new for new in exchange.reply_ids if new not in (self._tokenizer.end_id, self._end)]
            ids += self._user_turn(system, exchange.user) + self._turn(self._heading + written)
            system = ""
        return [*ids, *self._user_turn(system, user), self._start, *self._heading]

    def _user_turn(self, system: str, text: str) -> list[int]:
        prefix = f"{system}\n\n" if system else ""
        return self._turn(self._tokenizer.encode(f"user\n{prefix}{text.strip()}"))

    def _turn(self, content: list[int]) -> list[int]:
        return [self._start, *content, self._end, *self._line_break]


class StoryTemplate:
    """For models that know no turns: one text, to which user and model add by turns.

    A space is put where two texts would run together. After the model has ended its story a new one begins.
    """

    mode: Mode = "story"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def prompt(self, system: str, exchanges: Sequence[Exchange], user: str, room: int) -> Prompt:
        """The text so far, which begins with ``system`` and ends with ``user``: the last ``room`` ids of it."""
        opening = self._tokenizer.encode_prompt("")
        ids, before = self._tokenizer.encode(system), system[-1:]
        ends = []  # of each exchange, in ids
        for exchange in exchanges:
            text = _joined(before, exchange.user)
            ids += [*self._tokenizer.encode(text), *exchange.reply_ids]
            ends.append(len(ids))
            before = "" if self._tokenizer.end_id in exchange.reply_ids[-1:] else (before + text + exchange.reply)[-1:]
        ids += self._tokenizer.encode(_joined(before, user))
        cut = max(0, len(opening) + len(ids) - room)
        starts = [0, *ends][: len(exchanges)]
        forgotten = sum(start < cut for start in starts)
        return Prompt([*opening, *ids[cut:]] or [self._tokenizer.end_id], forgotten)

    def reply_ids(self, reply: str) -> tuple[int, ...]:
        """The ids of a reply of which only the text is known."""
        return tuple(self._tokenizer.encode(reply))


def _joined(before: str, text: str) -> str:
    """``text``, after a space where it would run into what comes before it, of which the end is enough."""
    runs_on = before and text and not before[-1].isspace() and not text[0].isspace() and not text.startswith(_CLOSING)
    return f" {text}" if runs_on else text
