"""What `generate` and `chat` share: options, beside those of ``Sampler``, and how they tell of speed."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gemmazero.cli import console, units
from gemmazero.config import DeviceName

if TYPE_CHECKING:
    from gemmazero.inference.continuation import Continuation
    from gemmazero.inference.generator import Generator
    from gemmazero.inference.pace import Pace

MODEL_HELP = "A run folder, a checkpoint, or a transformers Gemma 2 or 3 folder."
NEWEST_RUN = "the newest run's best checkpoint"

Dtype = Literal["fp32", "bf16", "fp16"]
DecodingDtype = Literal["fp32", "bf16", "fp16", "int8"]

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
    DecodingDtype,
    typer.Option(
        help="The type to compute in; int8 keeps the weights in 8 bits, on the CPU.",
        metavar="fp32|bf16|fp16|int8",
        rich_help_panel="Machine",
    ),
]
CompileOption = Annotated[
    bool | None,
    typer.Option(
        help="Run machine code made for the model: on a CPU by a C++ compiler, in two seconds when it is first used; "
        "a GPU takes a minute after the first token.",
        metavar="",
        rich_help_panel="Machine",
        show_default="on a CPU with a C++ compiler, but in fp16",
    ),
]


def seed_or_another(seed: int | None) -> int:
    """``seed``, or where none was given one that nobody chose."""
    if seed is not None:
        return seed
    import secrets

    return secrets.randbits(31)


def tell_of_machine_code(generator: "Generator", *, verbose: bool) -> None:
    """Say that somebody will wait for a compiler and, where that is asked for, that there is none."""
    if generator.compiles_at_second_token:
        console.say("compiling the model: the second token takes up to a minute")
    if verbose and generator.refusal is not None:
        console.say(f"without machine code, thus slower: {generator.refusal}")


def measured(pace: "Pace | Continuation") -> str:
    """How many tokens in what time; the first waits for the prompt to be read, the second maybe for a compiler."""
    told = f"{pace.tokens:,} tokens in {units.duration(pace.seconds)}, {pace.tokens_per_second:,.1f} tokens/s"
    if pace.tokens < 3:
        return told
    steady = f"{pace.steady_tokens_per_second:,.1f} tokens/s"
    return f"{told}: the first after {pace.first_token_seconds:.2f} s, then {steady}"
