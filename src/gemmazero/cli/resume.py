"""``gemmazero resume``: a run goes on from its last checkpoint, exactly."""

import dataclasses
from typing import Annotated, Any

import typer

from gemmazero.cli.follow import follow
from gemmazero.cli.options import given, with_settings
from gemmazero.config import TrainConfig

KINDS = {item.name: item.metadata["kind"] for item in dataclasses.fields(TrainConfig)}
FIXED = [name for name, kind in KINDS.items() if kind == "fixed"]  # accepted: the library says why they cannot change


@with_settings(TrainConfig, defaults=dict.fromkeys(KINDS, "the run's"), hide=FIXED)
def resume(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(help="A run folder.", metavar="RUN", show_default="the newest run")
    ] = None,
    *,
    data: Annotated[str | None, typer.Option(help="Where the run's data folder is now.", metavar="DIR")] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    """Go on with a run from the exact step of its last checkpoint."""
    from gemmazero import api

    follow(api.resume(run, data=data, **given(context, settings)), as_json=as_json)
