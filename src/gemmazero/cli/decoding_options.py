"""The options that `generate` and `chat` share, beside those of ``Sampler``."""

import secrets
from typing import Annotated, Literal

import typer

from gemmazero.config import DeviceName

MODEL_HELP = "A run folder, a checkpoint, or a transformers Gemma 2 or 3 folder."
NEWEST_RUN = "the newest run's best checkpoint"

Dtype = Literal["fp32", "bf16", "fp16"]

ModelOption = Annotated[str | None, typer.Option(help=MODEL_HELP, metavar="MODEL", show_default=NEWEST_RUN)]
MaxTokensOption = Annotated[int, typer.Option(help="Tokens to write at most.", metavar="N", min=1)]
SeedOption = Annotated[
    int | None,
    typer.Option(
        help="Seed of the drawing.", metavar="N", min=0, rich_help_panel="Sampling", show_default="another each time"
    ),
]
DeviceOption = Annotated[
    DeviceName, typer.Option(help="Where to compute.", metavar="auto|cpu|cuda|mps", rich_help_panel="Machine")
]
DtypeOption = Annotated[
    Dtype, typer.Option(help="The type to compute in.", metavar="fp32|bf16|fp16", rich_help_panel="Machine")
]


def seed_or_another(seed: int | None) -> int:
    """``seed``, or where none was given one that nobody chose."""
    return secrets.randbits(31) if seed is None else seed
