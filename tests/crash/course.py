"""A run from its data to its end: what is typed, with which settings, on which text."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_run import write_preset, write_text

RUN, DATA = "run", "data/animals"
_TEXT, _PRESET = "animals.jsonl", "tiny.json"
_DOCUMENTS = 24  # three and a half steps: every run here begins a third epoch, in the middle of a batch
_FIXED = {
    "steps": 8,
    "batch-size": 8,
    "sequence-length": 16,
    "learning-rate": 0.01,
    "warmup-steps": 2,
    "validate-every": 4,
    "validation-tokens": 48,
    "device": "cpu",
    "threads": 1,
}


@dataclass(frozen=True, order=True, kw_only=True)
class Variant:
    """What decides the result of a run. fp16 begins with a loss scale that overflows."""

    precision: str
    optimizer: str
    micro_batch_size: int = 8
    gradient_checkpointing: bool = False
    source: str = DATA  # or one that ``train`` prepares by itself

    @property
    def name(self) -> str:
        """In a word."""
        parts = [self.precision, self.optimizer, "accumulating" * (self.micro_batch_size < 8)]
        parts += ["checkpointing" * self.gradient_checkpointing, self.source * (self.source != DATA)]
        return "-".join(filter(None, parts))

    @property
    def is_overflowing(self) -> bool:
        """Whether its processes need ``session.overflow``."""
        return self.precision == "fp16"


VARIANTS = tuple(
    Variant(precision=precision, optimizer=optimizer, micro_batch_size=size, gradient_checkpointing=frugal)
    for precision, optimizer, size, frugal in itertools.product(
        ("fp32", "bf16", "fp16"), ("adamw", "adamw8bit"), (8, 3), (False, True)
    )
)
PREPARING = Variant(precision="fp32", optimizer="adamw", source="sample")


def furnish(folder: Path) -> None:
    """Put there what the commands need: a text, and the tiny model's config."""
    folder.mkdir(parents=True)
    write_text(folder / _TEXT, _DOCUMENTS)
    write_preset(folder / _PRESET)


def commands(variant: Variant, *, save_every: int, keep: int) -> list[Sequence[str]]:
    """What is typed, one after the other, each again until it has ended by itself."""
    prepare = ("prepare", _TEXT, "--out", DATA, "--tokenizer", "bytes", "--validation-fraction", "0.2")
    settings = _FIXED | {
        "precision": variant.precision,
        "optimizer": variant.optimizer,
        "micro-batch-size": variant.micro_batch_size,
        "save-every": save_every,
        "keep": keep,
    }
    train = ["train", "--preset", _PRESET, "--data", variant.source, "--out", RUN]
    train += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    train += ["--gradient-checkpointing"] * variant.gradient_checkpointing
    return [prepare, train] if variant.source == DATA else [train]
