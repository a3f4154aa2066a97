"""``gemmazero prepare``: text → a data folder."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from gemmazero.cli import console
from gemmazero.cli.options import given, with_settings
from gemmazero.cli.signals import TwoSignals
from gemmazero.config import DEFAULT_SOURCE, PrepareConfig


@with_settings(PrepareConfig)
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A file or folder of .txt, .md, .jsonl, .json, .csv, .parquet (also .gz, .zst), a .bin of token ids, "
            "a Hub dataset id, - for standard input, or sample, the built-in corpus.",
            metavar="SOURCE",
        ),
    ] = DEFAULT_SOURCE,
    *,
    out: Annotated[
        Path | None, typer.Option(help="The data folder.", metavar="DIR", show_default="data/<the source's name>")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace the data folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the report as one JSON object.")] = False,
    **settings: Any,
) -> None:
    """Turn text into tokens to train on."""
    config = PrepareConfig(**given(context, settings))

    with TwoSignals():
        from gemmazero.cli.preparation import PreparationProgress, summary
        from gemmazero.data.events import Prepared
        from gemmazero.data.prepare import preparing

        with PreparationProgress() as progress:
            for event in preparing(source, out, config, overwrite=overwrite):
                progress.show(event)
    assert isinstance(event, Prepared), "preparing ends with Prepared"
    if as_json:
        console.result_json(event.report.to_json())
        return
    console.result(summary(event.report))
    console.say(f"next: gemmazero train --data {shlex.quote(str(event.report.folder))}")
