"""Command-line options from the fields of a settings dataclass, where all about them is written once."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

import typer

from gemmazero.setting import words_of

Command = TypeVar("Command", bound=Callable[..., None])


def with_settings(
    settings: type,
    *,
    defaults: Mapping[str, str] = MappingProxyType({}),
    hide: Collection[str] = (),
    only: Collection[str] = (),
    panel: str | None = None,
) -> Callable[[Command], Command]:
    """Replace a command's ``**settings`` by an option for each field of the dataclass ``settings``.

    Args:
        settings: a dataclass whose fields were made by ``config.setting``.
        defaults: what the help says of the default of some fields, in place of the dataclass's own.
        hide: fields accepted but not shown in the help.
        only: the fields that are meant, where not all of them are.
        panel: where the help shows them, in place of each field's own.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
        derived = [
            _parameter(item, defaults.get(item.name, True), panel or item.metadata["panel"], hidden=item.name in hide)
            for item in dataclasses.fields(settings)
            if not only or item.name in only
        ]
        command.__signature__ = signature.replace(parameters=[*own, *derived])  # type: ignore[attr-defined]
        return command

    return decorate


def given(context: typer.Context, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``parameters`` that stand on the command line."""
    return {
        name: value
        for name, value in parameters.items()
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }


def _parameter(
    item: "dataclasses.Field[Any]", show_default: str | bool, panel: str, *, hidden: bool
) -> inspect.Parameter:
    words = words_of(item.type)
    name = "--" + item.name.replace("_", "-")
    option = typer.Option(
        f"{name}/--no-{name[2:]}" if item.type == bool | None else name,
        help=item.metadata["help"],
        metavar=_placeholder(item.type),
        rich_help_panel=panel,
        show_default=show_default,
        hidden=hidden,
        parser=_number_or_word if words else None,
    )
    return inspect.Parameter(
        item.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=item.default,
        annotation=Annotated[str if words else item.type, option],
    )


def _number_or_word(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _placeholder(kind: Any) -> str:
    """What stands for the value in the help: a flag has none, a choice shows its names."""
    if words := words_of(kind):
        return "|".join(["N", *words])
    if choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
        return "|".join(choices)
    return {int: "N", float: "X", bool: "", bool | None: ""}.get(kind, "TEXT")
