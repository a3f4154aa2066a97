"""``gemmazero generate``: prompt → its continuation."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemmazero.cli import console
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
from gemmazero.cli.options import given, with_settings
from gemmazero.config import DEFAULT_MAX_TOKENS
from gemmazero.errors import DataError, UsageError
from gemmazero.inference.sampling import Sampler

if TYPE_CHECKING:
    from gemmazero.inference.continuation import Continuation


@with_settings(Sampler)
def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="The beginning of the text; - reads it from standard input.", metavar="PROMPT")
    ] = None,
    *,
    model: ModelOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help='A file of prompts, one a line; in a .jsonl file under the key "prompt".', metavar="FILE"),
    ] = None,
    samples: Annotated[int, typer.Option(help="Continuations of each prompt.", metavar="N", min=1, max=10_000)] = 1,
    max_tokens: MaxTokensOption = DEFAULT_MAX_TOKENS,
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop before this text; may be given several times.", metavar="TEXT")
    ] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", metavar="", help="Print the text when it is complete.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Tell tokens, speed and seed on stderr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print a JSON object for each text.")] = False,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "fp32",
    compile: CompileOption = None,
    **settings: Any,
) -> None:
    """Continue a text as the model would."""
    texts = [text for text in _read_prompts(prompt, prompts) for _ in range(samples)]
    sampler = Sampler(**given(context, settings))
    seed = seed_or_another(seed)

    from gemmazero import api
    from gemmazero.inference.continuation import Continuation, continuing

    loaded = api.load(model, device=device, dtype=dtype, compile=compile)
    tell_of_machine_code(loaded.generator, verbose=verbose)
    streams = len(texts) == 1 and not (as_json or no_stream)
    if streams:
        _show_prompt(texts[0])
    for event in continuing(
        loaded.generator, loaded.tokenizer, texts, sampler=sampler, max_tokens=max_tokens, seed=seed, stop=stop or ()
    ):
        if not isinstance(event, Continuation):
            if streams:
                console.result(event.text, end="")
            continue
        if as_json:
            console.result_json(dataclasses.asdict(event))
        elif streams:
            console.result("")
        else:
            _show_prompt(event.prompt)
            console.result(event.text)
        if verbose:
            console.say(f"{_measured(event)}, seed {seed}, {loaded.folder}")


def _read_prompts(prompt: str | None, path: Path | None) -> list[str]:
    """The prompts asked for: of the command line, standard input, or a file."""
    if (prompt is None) == (path is None):
        raise UsageError("give a PROMPT or --prompts FILE, one of the two", 'gemmazero generate "Once upon a time"')
    try:
        if path is not None:
            lines = path.read_text(encoding="utf-8-sig").split("\n")  # a prompt may hold other ends of a line
            prompts = [_prompt_of(line) if path.suffix == ".jsonl" else line for line in lines if line.strip()]
            if not prompts:
                raise DataError(f'no prompt in "{path}"', "write one a line")
            return prompts
        text = sys.stdin.buffer.read().decode().removesuffix("\n") if prompt == "-" else prompt or ""
        text.encode()
    except UnicodeError as error:
        raise DataError(f'"{path or "the prompt"}" is not valid UTF-8', "iconv -t utf-8 converts it") from error
    return [text]


def _prompt_of(line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        prompt = None
    if not isinstance(prompt, str):
        raise DataError(f'no JSON object with the text "prompt": "{line[:80]}"', 'a line is {"prompt": "…"}')
    return prompt


def _show_prompt(prompt: str) -> None:
    """Before what continues it, for somebody who watches: stdout holds the continuation alone."""
    if console.is_terminal():
        console.say(console.styled(prompt, dim=True), end="")


def _measured(continuation: "Continuation") -> str:
    finish = {"stop": "a stop text", "end": "the end of the text", "length": "the length"}[continuation.finish]
    return f"{measured(continuation)}, ended by {finish}"
