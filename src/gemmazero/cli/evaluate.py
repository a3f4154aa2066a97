"""``gemmazero eval``: model → numbers."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gemmazero.cli import console
from gemmazero.cli.decoding_options import MODEL_HELP, NEWEST_RUN

if TYPE_CHECKING:
    from gemmazero.evaluation.perplexity import Evaluation

TOKENS_TO_FIRST_LINE = 100_000


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help=MODEL_HELP, metavar="MODEL", show_default=NEWEST_RUN),
    ] = None,
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="A data folder.", metavar="DIR", show_default="the one the run was trained on"),
    ] = None,
    split: Annotated[
        Literal["validation", "train"], typer.Option(help="Which part of the data.", metavar="validation|train")
    ] = "validation",
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object.")] = False,
) -> None:
    """Measure loss, perplexity, bits per byte and next-token accuracy over a whole split."""
    from gemmazero import api

    evaluation = watched(api.evaluating(model, data, split=split))
    if as_json:
        console.result_json(dataclasses.asdict(evaluation))
        return
    console.result(
        f"loss           {evaluation.loss:.4f} nats a token\n"
        f"perplexity     {evaluation.perplexity:,.2f}\n"
        f"bits per byte  {evaluation.bits_per_byte:.4f}\n"
        f"accuracy       {evaluation.accuracy:.2%} of next tokens\n"
        f"tokens         {evaluation.tokens:,}, the whole {evaluation.split} split"
    )


def watched(evaluations: "Iterator[Evaluation]") -> "Evaluation":
    """The last of ``evaluations``. The result so far is redrawn in place, or told in a line each time tokens double."""
    from rich.console import Console

    tokens_to_line = TOKENS_TO_FIRST_LINE
    with Console(stderr=True).status("evaluating") as status:
        for evaluation in evaluations:
            so_far = f"{evaluation.tokens:,} tokens, loss {evaluation.loss:.4f}"
            status.update(so_far)
            if evaluation.tokens >= tokens_to_line and not console.is_terminal():
                tokens_to_line *= 2
                console.say(so_far)
    return evaluation
