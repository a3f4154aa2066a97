"""Prompts → their continuations, as text: in pieces while they are written, and whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gemmazero.data.decoding import StreamDecoder
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.inference.generator import Generator
from gemmazero.inference.pace import Stopwatch
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.inference.stopping import StopScanner

Finish = Literal["stop", "end", "length"]

_ROWS_AT_ONCE = 16  # prompts that share a forward pass, and the memory of its cache


@dataclass(frozen=True)
class Piece:
    """Text just written: whole characters, and nothing of a stop text."""

    row: int
    """Index of the prompt that it continues."""
    text: str


@dataclass(frozen=True)
class Continuation:
    """What was written after one prompt."""

    prompt: str
    text: str
    """The continuation alone, up to the stop text or the end token."""
    tokens: int
    """Ids written, those of the stop text and the end token included."""
    finish: Finish
    """``stop``: a stop text; ``end``: the end of the document or turn; ``length``: max_tokens, or a full context."""
    seconds: float
    """From reading the prompt to the last token."""
    tokens_per_second: float
    """Of all of it; ``steady_tokens_per_second`` of what came after the second, which may wait for a compiler."""
    first_token_seconds: float
    steady_tokens_per_second: float


def continuing(
    generator: Generator,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    sampler: Sampler,
    max_tokens: int,
    seed: int,
    stop: Sequence[str] = (),
) -> Iterator[Piece | Continuation]:
    """Continue every prompt; an empty one begins a document.

    Prompts are read several at once, which changes no more than rounding: the randomness of each is its own, made of
    ``seed`` and its index.

    Yields:
        pieces as they are written, then the continuations in the order of the prompts; a row's pieces, joined, are the
        text of its continuation.

    Raises:
        UsageError: a prompt is longer than the model's context, or a stop text is empty.
    """
    for first in range(0, len(prompts), _ROWS_AT_ONCE):
        rows = [
            _Row(index, prompts[index], tokenizer, stop)
            for index in range(first, min(first + _ROWS_AT_ONCE, len(prompts)))
        ]
        steps = generator.stream(
            [row.ids for row in rows],
            sampler,
            [row_generator(seed, row.index) for row in rows],
            max_tokens=max_tokens,
            end_ids=end_ids(tokenizer),
        )
        for step in steps:
            for row, new in zip(rows, step, strict=True):
                if new is not None and (text := row.write(new)):
                    yield Piece(row.index, text)
            if all(row.finish for row in rows):
                break
        for row in rows:
            if text := row.close():
                yield Piece(row.index, text)
        for row in rows:
            yield row.continuation()


def end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids after which nothing is written: end of document and, where there is one, end of turn."""
    turn = tokenizer.turn_ids
    return frozenset({tokenizer.end_id} if turn is None else {tokenizer.end_id, turn[1]})


class _Row:
    """One prompt and its continuation so far."""

    def __init__(self, index: int, prompt: str, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.index = index
        self.prompt = prompt
        self.ids = tokenizer.encode_prompt(prompt) or [tokenizer.end_id]
        self.finish: Finish | None = None
        self._decoder = StreamDecoder(tokenizer)
        self._scanner = StopScanner(stop)
        self._ends = end_ids(tokenizer)
        self._pieces: list[str] = []
        self._stopwatch = Stopwatch()

    def write(self, new: int) -> str:
        """The text that one more id makes certain; "" once the row is finished."""
        if self.finish:
            return ""
        self._stopwatch.count()
        if new in self._ends:
            self.finish = "end"
            return ""
        return self._keep(self._scanner.push(self._decoder.push(new)))

    def close(self) -> str:
        """The text held back, now that nothing follows."""
        text = self._scanner.push(self._decoder.flush())
        return self._keep(text if self._scanner.found else text + self._scanner.flush())

    def continuation(self) -> Continuation:
        """What was written, once closed."""
        pace = self._stopwatch.pace()
        return Continuation(
            prompt=self.prompt,
            text="".join(self._pieces),
            tokens=pace.tokens,
            finish=self.finish or "length",
            seconds=pace.seconds,
            tokens_per_second=pace.tokens_per_second,
            first_token_seconds=pace.first_token_seconds,
            steady_tokens_per_second=pace.steady_tokens_per_second,
        )

    def _keep(self, text: str) -> str:
        self._pieces.append(text)
        if self._scanner.found:
            self.finish = "stop"
        return text
