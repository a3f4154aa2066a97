"""``gemmazero resume``: a run goes on from its last checkpoint, exactly; or its checkpoints are only looked at."""

import dataclasses
from typing import Annotated, Any

import typer

from gemmazero.cli.options import given, with_settings
from gemmazero.cli.signals import TwoSignals
from gemmazero.config import TrainConfig
from gemmazero.errors import UsageError

KINDS = {item.name: item.metadata["kind"] for item in dataclasses.fields(TrainConfig)}
FIXED = [name for name, kind in KINDS.items() if kind == "fixed" and name != "steps"]  # accepted: the library refuses
AS_THE_RUN = {name: "the run's" for name in KINDS if name != "max_time"}  # a limit is one command's alone
DEFAULTS = AS_THE_RUN | {"steps": "the run's; more extends it"}


@with_settings(TrainConfig, defaults=DEFAULTS, hide=FIXED)
def resume(
    context: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(help="A run folder, or a repository on the Hub.", metavar="RUN", show_default="the newest run"),
    ] = None,
    *,
    data: Annotated[str | None, typer.Option(help="Where the run's data folder is now.", metavar="DIR")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", metavar="", help="Only check every checkpoint; exit 1 if one is damaged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the result as one JSON object.")] = False,
    **settings: Any,
) -> None:
    """Go on with a run from the exact step of its last checkpoint."""
    changes = given(context, {"data": data, **settings})
    if verify and changes:
        option = "--" + next(iter(changes)).replace("_", "-")
        raise UsageError(f"--verify only looks at a run: {option} does not go with it", f"leave {option} out")
    if verify:
        from gemmazero import api
        from gemmazero.cli.verification import show

        show(api.verify(run), as_json=as_json)
        return
    with TwoSignals() as two_signals:
        from gemmazero import api
        from gemmazero.cli.follow import follow

        follow(api.resume(run, **changes), two_signals, as_json=as_json)
