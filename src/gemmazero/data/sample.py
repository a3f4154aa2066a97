"""The built-in corpus: a seeded writer of small children's stories, so that everything runs offline.

A small grammar tells each story. A plot is a text with two kinds of gaps:
`[sunny|rainy]` takes one of the alternatives, which nest;
`{toy}` takes a word of the list `toy`, or expands the phrase of that name, and keeps it for the whole story;
`{toy2}` is another toy, `{name.his}` the column `his` of the row that `{name}` stands for, `{Toy}` has a capital;
`{time=dusk}` says nothing and sets `{time}`; `¶` begins a paragraph in half of the stories.
"""

import re
from collections.abc import Iterator
from random import Random

from gemmazero.data.sample_plots import PLOTS
from gemmazero.data.sample_words import LISTS, PHRASES, TABLES

__all__ = ["STORIES", "stories"]

STORIES = 5_000
"""How many stories the corpus has: about 2.4 MB of text."""

Row = dict[str, str]

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)(?:\.(\w+)|=([^{}]*))?\}")
# It is the sound that counts: a unicorn, a useful thing, a ukulele, a one; an hour, an honest boy.
_AN = re.compile(r"\b([Aa]) (?=(?!uni|use|uk|eu|one\b)[aeiou]|hour|honest)", re.ASCII)


def stories(seed: int) -> Iterator[str]:
    """Yield `STORIES` different stories, the same ones for the same seed on every machine and Python version.

    `Random.random()` after seeding with a string is all the randomness used: the standard library promises both to
    stay as they are for ever.
    """
    random = Random()
    random.seed(f"gemmazero sample {seed}", version=2)
    told: set[str] = set()
    while len(told) < STORIES:
        story = _Story(random).tell()
        if story not in told:
            told.add(story)
            yield story


class _Story:
    """One story being told, and what its slots have come to stand for."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rows: dict[str, Row] = {}

    def tell(self) -> str:
        words = " ".join(self._expand(PLOTS[self._below(len(PLOTS))]).split())
        mark = "\n\n" if self._random.random() < 0.5 else " "
        return _AN.sub(r"\1n ", words).replace(" ¶ ", mark)

    def _expand(self, text: str) -> str:
        """Take the alternatives first, so that a slot in one not taken is never filled."""
        while "[" in text:
            text = _CHOICE.sub(self._choose, text)
        return _SLOT.sub(self._fill, text)

    def _choose(self, choice: re.Match[str]) -> str:
        alternatives = choice[1].split("|")
        return alternatives[self._below(len(alternatives))]

    def _fill(self, slot: re.Match[str]) -> str:
        key, column, value = slot[1], slot[2], slot[3]
        if value is not None:
            self._rows[key] = {"": value}
            return ""
        word = self._row(key.lower())[column or ""]
        return word[0].upper() + word[1:] if key[0].isupper() else word

    def _row(self, key: str) -> Row:
        """What `key` stands for in this story, drawn at its first use."""
        if key not in self._rows:
            if key in PHRASES:
                self._rows[key] = {"": self._expand(PHRASES[key])}
            else:
                self._rows[key] = self._draw(_ROWS[key.rstrip("23")])
        return self._rows[key]

    def _draw(self, rows: list[Row]) -> Row:
        """A row no other slot of this story stands for, the front of the list more often than its end."""
        free = [row for row in rows if row not in self._rows.values()]
        return free[int(len(free) * self._random.random() ** 2)]

    def _below(self, bound: int) -> int:
        return int(bound * self._random.random())


def _rows(table: str) -> list[Row]:
    """Rows keyed by the column's name of a table whose first line names them; the first column's key is empty."""
    header, *lines = ([" ".join(cell.split()) for cell in line.split(",")] for line in table.split(";"))
    return [dict(zip(["", *header[1:]], line, strict=True)) for line in lines]


_ROWS = {name: [{"": " ".join(word.split())} for word in words.split(",")] for name, words in LISTS.items()}
_ROWS |= {name: _rows(table) for name, table in TABLES.items()}
