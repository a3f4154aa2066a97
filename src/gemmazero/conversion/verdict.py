"""What a conversion proved of the folder that it wrote: this much, and no more."""

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was compared with what, and how far apart the two were."""

    folder: Path
    to: str
    dtype: str
    logits_compared: str  # the two sides, in words
    sequences: int
    sequence_length: int  # tokens
    longer_than_window: bool
    largest_logit_difference: float
    logit_tolerance: float
    tolerance_reason: str
    next_tokens: int  # positions at which the likeliest next token was compared
    different_next_tokens: int  # where the two sides choose differently
    wrong_next_tokens: int  # of those, where the best two logits are further apart than the tolerance
    largest_rounding_difference: float  # how far storing the weights in ``dtype`` moved a logit
    tokenizers_compared: str  # the two sides, in words
    texts: int
    mismatched_texts: int
    trimmed_embeddings: int  # rows for which there was no token, left out

    @property
    def ok(self) -> bool:
        """Whether nothing differed by more than the tolerance."""
        alike = self.largest_logit_difference <= self.logit_tolerance and self.wrong_next_tokens == 0
        return alike and self.mismatched_texts == 0

    def to_json(self) -> dict[str, Any]:
        """Every field, and ``ok``."""
        return dataclasses.asdict(self) | {"folder": str(self.folder), "ok": self.ok}


def _random_texts(count: int, seed: int) -> tuple[str, ...]:
    """Characters from all of Unicode; surrogates, which are none, aside."""
    source = random.Random(seed)
    blocks = ((0x20, 0x7F), (0x00, 0x250), (0x370, 0x2000), (0x2000, 0xD800), (0xE000, 0x110000))
    return tuple(
        "".join(chr(source.randrange(*source.choice(blocks))) for _ in range(source.randrange(1, 40)))
        for _ in range(count)
    )


SAMPLE_TEXTS = (
    "",
    " ",
    "Once upon a time, there was a little girl named Lily. She didn't have 3 apples; she'd 1234567.",
    "  leading, trailing and   inner   spaces  ",
    "tabs\tand\nnewlines\n\n\r\nof every\r kind \n ",
    "def f(x: int) -> str:\n    return f'{x:>8}'  # code\n",
    "I'm you're he'll WE'VE It's DON'T o'clock",
    "Ünïcödé: naïve café, Ελληνικά, Русский, עברית, العربية, हिन्दी, ไทย",
    "日本語のテキスト、中文文本、한국어 텍스트。",
    "e\u0301 composed and \u00e9 precomposed, \u200bzero\u200dwidth, \ufeffmark, \u2028separators\u2029",
    "emoji 🙂 👩‍👩‍👧‍👦 🇩🇪 👍🏽, astral 𝒳 𐍈 \U0010fffd",
    "\x00\x01\x1f\x7f\x80\x9f control characters",
    "<|endoftext|> <start_of_turn>user <end_of_turn> <eos> <bos> </s> are words here",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa !!!!!!!!!!!!!!!! ---------------- ........",
    "https://example.org/a?b=c&d=e#f 3.14159 1,000,000 50% $9.99 2026-11-21",
    *_random_texts(count=200, seed=0),
)
"""What tokenizers are compared on."""
