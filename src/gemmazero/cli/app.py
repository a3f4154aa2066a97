"""The seven commands under one name."""

from typing import Annotated

import typer

from gemmazero import __version__
from gemmazero.cli import console
from gemmazero.cli.chat import chat
from gemmazero.cli.convert import convert
from gemmazero.cli.evaluate import evaluate
from gemmazero.cli.generate import generate
from gemmazero.cli.prepare import prepare
from gemmazero.cli.resume import resume
from gemmazero.cli.train import train

UNSET_FLAGS = ("help", "install_completion", "show_completion")  # typer's: unset they are None, which loads pydantic

app = typer.Typer(
    name="gemmazero",
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "default_map": dict.fromkeys(UNSET_FLAGS, False),
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.result(f"gemmazero {__version__}")
        raise typer.Exit


@app.callback()
def gemmazero(
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train a Gemma-style language model from nothing, on one GPU or a laptop, and trust it."""


for _panel, _commands in {
    "Train": (prepare, train, resume),
    "Use": (evaluate, generate, chat, convert),
}.items():
    for _command in _commands:
        app.command("eval" if _command is evaluate else None, rich_help_panel=_panel)(_command)
