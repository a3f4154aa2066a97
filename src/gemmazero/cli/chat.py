"""``gemmazero chat``: a conversation in the terminal."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemmazero.cli import console, units
from gemmazero.cli.decoding_options import (
    CompileOption,
    DeviceOption,
    DtypeOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    measured,
    seed_or_another,
    tell_of_machine_code,
)
from gemmazero.cli.explain import explain
from gemmazero.cli.options import given, with_settings
from gemmazero.config import DEFAULT_MAX_TOKENS
from gemmazero.errors import UsageError
from gemmazero.folder import write_file
from gemmazero.inference.sampling import Sampler
from gemmazero.json_file import read_json

if TYPE_CHECKING:
    from gemmazero.inference.conversation import Conversation

COMMANDS = """\
/system TEXT  say what the model should be, or how the story begins; without TEXT, show it
/undo         take back the last turn
/reset        begin anew
/save FILE    write the conversation to a file
/load FILE    go on with a conversation from a file
/exit         leave, as Ctrl-D does; Ctrl-C stops a reply"""

LARGEST_CONVERSATION = 2**20  # bytes of a file: more than any model's context holds

MODES = {
    "chat": "chat: the model takes turns with you",
    "story": "story: the model knows no turns and continues the text you begin; an empty line lets it write on",
}


@with_settings(Sampler)
def chat(
    context: typer.Context,
    *,
    model: ModelOption = None,
    max_tokens: MaxTokensOption = DEFAULT_MAX_TOKENS,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Tell tokens and speed of each reply on stderr.")
    ] = False,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "fp32",
    compile: CompileOption = None,
    **settings: Any,
) -> None:
    """Talk with a model, or write a story with it, turn by turn."""
    sampler = Sampler(**given(context, settings))

    from gemmazero import api
    from gemmazero.inference.conversation import Conversation

    loaded = api.load(model, device=device, dtype=dtype, compile=compile)
    tell_of_machine_code(loaded.generator, verbose=verbose)
    seed = seed_or_another(seed)
    conversation = Conversation(loaded.generator, loaded.tokenizer, sampler, max_tokens=max_tokens, seed=seed)
    console.say(f"{loaded.folder}, {MODES[conversation.mode]}; /help lists the commands")
    while (line := _next_line()) is not None and line.strip() != "/exit":
        try:
            if line.startswith("/"):
                _obey(conversation, line.strip())
            elif line.strip() or conversation.mode == "story":
                _reply(conversation, line)
                if verbose:
                    console.say(measured(conversation.pace))
        except Exception as error:
            told = explain(error)
            if told is None or isinstance(error, BrokenPipeError):
                raise
            console.problem(*told[:2])


def _next_line() -> str | None:
    """What the user says next; None at the end of the input."""
    while True:
        try:
            if sys.stdin.isatty():
                import readline  # noqa: F401 - lets input() edit and remember lines

                return input("> ")
            line = sys.stdin.readline()
            return line.rstrip("\r\n") if line else None
        except KeyboardInterrupt:
            console.say("\n/exit or Ctrl-D leaves")
        except EOFError:
            console.say()
            return None


def _reply(conversation: "Conversation", text: str) -> None:
    """Stream the model's reply; Ctrl-C ends it, and what was said so far counts."""
    forgotten = conversation.forgotten
    try:
        for piece in conversation.reply(text):
            console.result(piece, end="")
    except KeyboardInterrupt:
        console.say(" …", end="")
    console.result("")
    if conversation.forgotten > forgotten:
        turns = units.counted(conversation.forgotten, "turn")
        console.say(f"(the model's context is full: it has forgotten {turns} of the beginning)")


def _obey(conversation: "Conversation", line: str) -> None:
    """Carry out a command. Raises UsageError for one that does not exist or lacks its file."""
    command, _, argument = line.partition(" ")
    argument = argument.strip()
    if command in ("/save", "/load") and not argument:
        raise UsageError(f"{command} needs a file", f"{command} conversation.json")
    match command:
        case "/help":
            console.say(COMMANDS)
        case "/system":
            conversation.system = argument or conversation.system
            console.say(f"system: {conversation.system or '(none)'}")
        case "/undo":
            exchange = conversation.undo()
            console.say(f'taken back: "{exchange.user}"' if exchange else "nothing to take back")
        case "/reset":
            conversation.reset()
            console.say("begun anew")
        case "/save":
            write_file(Path(argument), json.dumps(conversation.to_json(), indent=1) + "\n")
            console.say(f"saved {units.counted(len(conversation.exchanges), 'turn')} to {argument}")
        case "/load":
            hint = "/load takes a file that /save wrote"
            conversation.from_json(read_json(Path(argument), limit_bytes=LARGEST_CONVERSATION, hint=hint))
            console.say(f"loaded {units.counted(len(conversation.exchanges), 'turn')} from {argument}")
        case _:
            raise UsageError(f'unknown command "{command}"', "/help lists the commands")
