"""``gemmazero train``: data → a run folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gemmazero.cli.options import given, with_settings
from gemmazero.cli.signals import TwoSignals
from gemmazero.config import DEFAULT_SOURCE, STREAM_OPTIONS, PrepareConfig, TrainConfig
from gemmazero.presets import DEFAULT_PRESET, PRESETS


@with_settings(PrepareConfig, only=STREAM_OPTIONS, panel="The source, with --stream")
@with_settings(TrainConfig, defaults={name: "the preset's" for preset in PRESETS.values() for name in preset.train})
def train(
    context: typer.Context,
    *,
    preset: Annotated[
        str,
        typer.Option(help=f"{', '.join(PRESETS)}, or a Gemma 2 or 3 config.json.", metavar="NAME_OR_FILE"),
    ] = DEFAULT_PRESET,
    data: Annotated[
        str,
        typer.Option(help="A data folder, or a source that is prepared first.", metavar="DIR_OR_SOURCE"),
    ] = DEFAULT_SOURCE,
    out: Annotated[
        str | None,
        typer.Option(
            help="The run folder.",
            metavar="RUN",
            show_default="runs/<preset>-<data's name>",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="A run, a checkpoint or a transformers folder whose weights to begin with.",
            metavar="MODEL",
            show_default="random weights",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A file of these options, with underscores; the command line wins.", metavar="FILE.toml"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Print what the run will cost, and stop: nothing is written.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    """Train a model; the same command again goes on with an unfinished run."""
    places = {"preset": preset, "data": data, "out": out, "init": init}
    chosen = given(context, places | settings)
    if config:
        from gemmazero.cli.settings_file import read_settings

        chosen = read_settings(config) | chosen

    with TwoSignals() as two_signals:
        from gemmazero import api
        from gemmazero.cli.follow import follow
        from gemmazero.cli.plan import show

        if dry_run:
            show(api.train(**chosen).plan(), as_json=as_json)
            return
        follow(api.train(**chosen), two_signals, as_json=as_json)
