"""Who reads what: the public entries of GemmaZero, each given a world and a folder with a spoilt part of it."""

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gemmazero import api
from gemmazero.cli import console
from gemmazero.cli.app import app
from hostile.world import ONE_STEP, SIX_STEPS


class ToldError(Exception):
    """A command went on, and said what is wrong."""


def load(world: Path, folder: Path) -> None:
    api.load(folder / "model", device="cpu").generate("an ant", max_tokens=2)


def load_shards(world: Path, folder: Path) -> None:
    api.load(folder / "sharded", device="cpu").generate("an ant", max_tokens=2)


def convert(world: Path, folder: Path) -> None:
    api.convert(folder / "model", folder / "out")


def evaluate(world: Path, folder: Path) -> None:
    api.evaluate(world / "model", folder / "data")


def train(world: Path, folder: Path) -> None:
    preset = world / "settings" / "tiny.json"
    api.train(preset=str(preset), data=folder / "data", out=folder / "out", **ONE_STEP).run()


def train_a_preset(world: Path, folder: Path) -> None:
    preset = folder / "settings" / "tiny.json"
    api.train(preset=str(preset), data=world / "data", out=folder / "out", **ONE_STEP).run()


def train_from_a_model(world: Path, folder: Path) -> None:
    api.train(init=folder / "model", data=world / "data", out=folder / "out", **ONE_STEP).run()


def train_by_settings(world: Path, folder: Path) -> None:
    arguments = ["--preset", world / "settings" / "tiny.json", "--data", world / "data", "--out", folder / "out"]
    command("train", "--config", folder / "settings" / "run.toml", *arguments)


def resume(world: Path, folder: Path) -> None:
    api.resume(folder / "run").run()


def train_again(world: Path, folder: Path) -> None:
    preset = world / "settings" / "tiny.json"
    api.train(preset=str(preset), data=world / "data", out=folder / "run", **SIX_STEPS).run()


def load_run(world: Path, folder: Path) -> None:
    api.load(folder / "run", device="cpu").generate("an ant", max_tokens=2)


def verify(world: Path, folder: Path) -> None:
    for inspection in api.verify(folder / "run"):
        if inspection.reason:
            raise ToldError(inspection.reason)


def prepare(world: Path, folder: Path) -> None:
    ((source,),) = [list(part.iterdir()) for part in folder.iterdir()]
    api.prepare(str(source), folder / "out", tokenizer="bytes")


def prepare_a_folder(world: Path, folder: Path) -> None:
    (part,) = folder.iterdir()
    api.prepare(str(part), folder / "out", tokenizer="bytes")


def prepare_with_a_tokenizer(world: Path, folder: Path) -> None:
    api.prepare(str(world / "jsonl" / "data.jsonl"), folder / "out", tokenizer=str(folder / "model"))


def prepare_again(world: Path, folder: Path) -> None:
    source = str(world / "jsonl" / "data.jsonl")
    api.prepare(source, folder / "data", tokenizer="bytes", validation_fraction=0.2)


def chat(world: Path, folder: Path) -> None:
    said = command(
        "chat", "--model", world / "model", "--max-tokens", 2, "--device", "cpu",
        stdin=f"/load {folder / 'talks' / 'talk.json'}\nHello\n",
    )  # fmt: skip
    if told := [line for line in said.splitlines() if line.startswith("error: ")]:
        raise ToldError("; ".join(told))


ENTRIES: dict[str, Callable[[Path, Path], None]] = {
    entry.__name__: entry
    for entry in (
        load, load_shards, convert, evaluate, train, train_a_preset, train_from_a_model, train_by_settings, resume,
        train_again, load_run, verify, prepare, prepare_a_folder, prepare_with_a_tokenizer, prepare_again, chat,
    )
}  # fmt: skip


def command(*arguments: object, stdin: str = "") -> str:
    """Run the program's command line in this process; returns what it says on stderr."""
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(stdin), io.StringIO(), io.StringIO()
    try:
        console.set_up()
        with suppress(SystemExit):  # it was told to stop, by --max-time
            app([str(argument) for argument in arguments], prog_name="gemmazero", standalone_mode=False)
        return sys.stderr.getvalue()
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
