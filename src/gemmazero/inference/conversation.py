"""Several turns with a model, streamed; what was said before stays in the cache."""

from collections.abc import Iterator, Mapping
from typing import Any

from gemmazero.data.decoding import StreamDecoder
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import UsageError
from gemmazero.inference.continuation import end_ids
from gemmazero.inference.generator import Generator
from gemmazero.inference.pace import Pace, Stopwatch
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.inference.template import ChatTemplate, Exchange, Mode, StoryTemplate


class Conversation:
    """A chat where the tokenizer has turn tokens, else a story that user and model write by turns.

    The cache is kept as long as what it has read is the beginning of the next prompt, so that a turn costs only its
    own tokens; otherwise (undone, reset, loaded, forgotten) the prompt is read anew.

    Args:
        generator: of a model of ``tokenizer``'s vocabulary.
        tokenizer: decides between chat and story.
        sampler: draws each token.
        max_tokens: tokens a reply at most.
        seed: of all replies together.
        system: a text before the first turn.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: Tokenizer,
        sampler: Sampler,
        *,
        max_tokens: int,
        seed: int,
        system: str = "",
    ) -> None:
        self.system = system
        self.forgotten = 0
        """How many of the oldest exchanges the model did not see, or not whole, at the last reply: no room."""
        self.pace = Pace(0, 0.0, 0.0, 0.0)
        """Of the last reply."""
        self._tokenizer = tokenizer
        self._sampler = sampler
        self._max_tokens = max_tokens
        self._template = ChatTemplate(tokenizer) if tokenizer.turn_ids else StoryTemplate(tokenizer)
        self._exchanges: list[Exchange] = []
        self._generator = generator
        self._random = row_generator(seed, 0)
        self._cache = self._generator.empty_cache()
        self._read: list[int] = []  # what the cache holds

    @property
    def mode(self) -> Mode:
        """``chat``: turns in Gemma's template; ``story``: turns are text added to a story."""
        return self._template.mode

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All of the conversation, what the model has forgotten included."""
        return tuple(self._exchanges)

    def reply(self, user: str) -> Iterator[str]:
        """Say ``user`` and stream the model's reply, in whole characters.

        Closing the iterator, or an interrupt, keeps the exchange with what was said so far. In a story, an empty
        ``user`` asks the model to write on.

        Raises:
            UsageError: ``user`` alone fills the context.
        """
        prompt = self._prompt(user)
        if not self._read or self._read != prompt[: len(self._read)] or len(self._read) == len(prompt):
            self._cache = self._generator.empty_cache()
        stopwatch = Stopwatch()
        written: list[int] = []
        pieces: list[str] = []
        cache_is_whole = False  # an interrupt within a step leaves only some layers with its token
        try:
            for piece in self._write(prompt, written, stopwatch):
                pieces.append(piece)
                yield piece
            cache_is_whole = True
        except GeneratorExit:
            cache_is_whole = True
            raise
        finally:
            self._read = (prompt + written)[: self._cache.length] if cache_is_whole else []
            self.pace = stopwatch.pace()
            self._exchanges.append(Exchange(user, "".join(pieces), tuple(written)))

    def undo(self) -> Exchange | None:
        """Take back the last exchange and return it; None where there is none."""
        return self._exchanges.pop() if self._exchanges else None

    def reset(self) -> None:
        """Begin anew, with the same system text."""
        self._exchanges.clear()
        self.forgotten = 0

    def to_json(self) -> dict[str, Any]:
        """``{"messages": [{"role": "user", "content": …}, {"role": "assistant", …}, …]}``, the system text first."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for exchange in self._exchanges:
            messages.append({"role": "user", "content": exchange.user})
            messages.append({"role": "assistant", "content": exchange.reply})
        return {"messages": messages}

    def from_json(self, record: Mapping[str, Any]) -> None:
        """Go on from what ``to_json`` gave, in place of what was said here. Raises UsageError for anything else."""
        messages = record.get("messages")
        if not isinstance(messages, list) or not all(map(_is_message, messages)):
            raise UsageError('not a saved conversation: it has no "messages" of a role and a content', _HINT)
        has_system = bool(messages) and messages[0]["role"] == "system"
        turns = messages[has_system:]
        texts = [turn["content"] for turn in turns]
        if [turn["role"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
            raise UsageError("not a saved conversation: user and assistant do not take turns", _HINT)
        self.reset()
        self.system = messages[0]["content"] if has_system else ""
        self._exchanges = [
            Exchange(user, reply, self._template.reply_ids(reply))
            for user, reply in zip(texts[::2], texts[1::2], strict=True)
        ]

    def _prompt(self, user: str) -> list[int]:
        """What the model reads before it replies, short enough to leave room for the reply where that can be."""
        context = self._generator.context
        room = context - min(self._max_tokens, context // 2)
        prompt = self._template.prompt(self.system, self._exchanges, user, room)
        if len(prompt.ids) >= context:
            raise UsageError(
                f"this turn is {len(prompt.ids)} tokens long, the model's context {context}", "say it in fewer words"
            )
        self.forgotten = prompt.forgotten
        return prompt.ids

    def _write(self, prompt: list[int], written: list[int], stopwatch: Stopwatch) -> Iterator[str]:
        """Stream the text after ``prompt``; its ids are added to ``written``."""
        decoder = StreamDecoder(self._tokenizer)
        ends = end_ids(self._tokenizer)
        steps = self._generator.stream(
            [prompt], self._sampler, [self._random], max_tokens=self._max_tokens, end_ids=ends, cache=self._cache
        )
        for (new,) in steps:
            assert new is not None  # a single row ends with its stream
            written.append(new)
            stopwatch.count()
            if new not in ends and (piece := decoder.push(new)):
                yield piece
        if rest := decoder.flush():
            yield rest


_HINT = "load a file that /save wrote"


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
    )
