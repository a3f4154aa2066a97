import subprocess
import sys

import pytest
import typer.main

import gemmazero as package
from gemmazero.cli.app import app
from program import Program

COMMANDS = ["prepare", "train", "resume", "eval", "generate", "chat", "convert"]


def test_there_are_seven_commands() -> None:
    assert list(typer.main.get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]


def test_help_of_every_command_imports_nothing_that_only_work_needs() -> None:
    script = """
import sys
from gemmazero.cli.boundary import run
for arguments in ([], *([name] for name in sys.argv[1:])):
    sys.argv = ["gemmazero", *arguments, "--help"]
    assert run() == 0
libraries = {"torch", "numpy", "datasets", "pyarrow", "tokenizers", "tiktoken", "matplotlib", "pydantic"}
standard = {"ctypes", "hashlib", "secrets", "tomllib"}
ours = {"gemmazero.api", "gemmazero.training", "gemmazero.data", "gemmazero.storage", "gemmazero.cli.figures"}
heavy = (libraries | standard | ours) & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script, *COMMANDS], check=True, capture_output=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is_in_a_sentence(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    for text in [command.help, *(param.help for param in command.params)]:
        assert text.endswith(".")
        assert "\n" not in text


def test_version_goes_to_stdout(gemmazero: Program) -> None:
    done = gemmazero("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gemmazero {package.__version__}\n", "")


def test_program_that_has_done_its_work_searches_for_no_garbage() -> None:
    script = """
import gc, sys
from gemmazero.__main__ import main
sys.argv = ["gemmazero", "--version"]
try:
    main()
except SystemExit as leaving:
    assert leaving.code == 0
assert gc.get_freeze_count() > 1000
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_no_arguments_are_a_call_for_help(gemmazero: Program) -> None:
    done = gemmazero()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)
    assert "\x1b" not in done.stdout
