import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from program import Program


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["trian"], "error: no such command 'trian'. Did you mean 'train'?", "hint: gemmazero --help"),
        (
            ["train", "--stepz", "1"],
            "error: no such option: --stepz",
            "hint: did you mean --steps? gemmazero train --help",
        ),
        (["train", "--steps", "many"], "error: invalid value for '--steps'", "hint: gemmazero train --help"),
        (
            ["train", "--hub-repo", "it"],
            'error: --hub-repo "it" is not USER/NAME',
            "hint: --hub-repo someone/some-model",
        ),
        (["convert"], "error: missing argument 'SOURCE'", "hint: gemmazero convert --help"),
        (["generate"], "error: give a PROMPT or --prompts FILE", 'hint: gemmazero generate "Once upon a time"'),
        (["generate", "a", "--prompts", "b"], "error: give a PROMPT or --prompts FILE", "hint: "),
        (["generate", "a", "--top-p", "2"], "error: --top-p must be at most 1", "hint: --top-p"),
    ],
)
def test_wrong_usage_is_an_error_a_hint_and_exit_code_two(
    gemmazero: Program, arguments: list[str], message: str, hint: str
) -> None:
    done = gemmazero(*arguments)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert lines[0].startswith(message)
    assert len(lines) == 1 + bool(hint)
    assert lines[-1].startswith(hint)


def test_a_system_that_is_not_supported_is_told_before_anything_fails() -> None:
    program = "import runpy, sys; sys.platform = 'win32'; runpy.run_module('gemmazero', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


def test_long_message_is_neither_wrapped_nor_coloured(gemmazero: Program, tmp_path: Path) -> None:
    path = tmp_path / ("long " * 40) / "run.toml"
    done = gemmazero("train", "--config", path)
    assert done.returncode == 1
    assert done.stderr == f'error: no such file or directory: "{path}"\nhint: --config takes a TOML file\n'


def test_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "gemmazero", "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_under_stdout_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gemmazero", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error: no space left on the disk")


def test_ctrl_c_while_data_is_prepared_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gemmazero", "prepare", "sample"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "reading sample\n"
        process.send_signal(signal.SIGINT)
        talk = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in talk
    assert talk.endswith("stopped at once by Ctrl-C; to do it again:\n  gemmazero prepare sample\n")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_error_that_ctrl_c_caused_is_a_ctrl_c() -> None:
    script = """
import sys
from gemmazero.cli import app, boundary
from gemmazero.errors import CheckpointError
sys.argv = ["gemmazero", "importing", "a b"]
@app.app.command()
def importing(name: str) -> None:
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("initialization failed")
    except ImportError as error:
        raise CheckpointError("cannot read", "pip install") from error
sys.exit(boundary.run())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "\nstopped at once by Ctrl-C; to do it again:\n  gemmazero importing 'a b'\n"


def test_bug_keeps_its_traceback() -> None:
    script = """
import sys
from gemmazero.cli import app, boundary
sys.argv = ["gemmazero", "buggy"]
@app.app.command()
def buggy() -> None:
    secret = "of the local variables"
    raise ZeroDivisionError("ours")
boundary.run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError: ours" in done.stderr
    assert "╭ locals" not in done.stderr
    assert "─ locals" not in done.stderr
