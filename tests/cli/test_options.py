import dataclasses
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from gemmazero.cli.options import given, with_settings
from gemmazero.config import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Oven:
    degrees: int = setting(180, "Degrees Celsius.", panel="Heat")
    mode: Literal["fan", "grill"] = setting("fan", "Where the heat comes from.", panel="Heat")
    light: bool = setting(False, "Light it.", panel="View")
    label: str | None = setting(None, "Its name.", panel="View")
    gain: float = setting(0.5, "How fast.", panel="View")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_settings(Oven, defaults={"degrees": "the recipe's"}, hide={"gain"})
    def bake(context: typer.Context, dish: str, **settings: Any) -> None:
        typer.echo(f"{dish} {settings['degrees']} {sorted(given(context, settings).items())}")

    return app


def test_only_what_was_given_is_passed_on(app: typer.Typer) -> None:
    output = CliRunner().invoke(app, ["pie", "--degrees", "180", "--light", "--gain", "2"]).output
    assert output == "pie 180 [('degrees', 180), ('gain', 2.0), ('light', True)]\n"
    assert CliRunner().invoke(app, ["pie"]).output == "pie 180 []\n"


def test_help_says_name_meaning_default_and_panel_of_each_field(app: typer.Typer) -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160"}).output
    for part in ("Heat", "View", "--degrees", "Degrees Celsius.", "the recipe's", "fan|grill", "fan]"):
        assert part in text
    assert "--gain" not in text


@pytest.mark.parametrize("arguments", [["--degrees", "hot"], ["--degrees", "1.5"], ["--mode", "steam"]])
def test_values_of_the_wrong_type_are_wrong_usage(app: typer.Typer, arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["pie", *arguments]).exit_code == 2
