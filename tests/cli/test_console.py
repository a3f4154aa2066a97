import json
import os
import subprocess
import sys

import pytest

from gemmazero.cli import console


def test_results_go_to_stdout_and_talk_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.result("a result")
    console.say("some talk")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "some talk\n")


def test_json_is_one_line_in_ascii_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"text": "naïve 😀\nline", "loss": 0.1}
    console.result_json(record)
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == record


def test_problem_is_a_line_each_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    console.problem('no such file: "' + "x" * 300 + '"', "gemmazero prepare")
    console.problem("alone")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ['error: no such file: "' + "x" * 300 + '"', "hint: gemmazero prepare", "error: alone"]


def test_what_json_cannot_say_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        console.result_json({"loss": float("nan")})
    assert capsys.readouterr().out == ""


def test_streams_that_the_shell_closed_are_nowhere() -> None:
    script = (
        "import sys; from gemmazero.cli import console; console.set_up(); console.result('a'); console.say('b');"
        "sys.exit(3 + len(sys.stdin.read()) + console.is_terminal())"
    )
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-W", "error", "-c", script]
    assert subprocess.run(closing, check=False).returncode == 3


def test_narrow_encoding_replaces_instead_of_failing() -> None:
    script = (
        "from gemmazero.cli import console; console.set_up(); console.result('na\\u00efve'); console.say('\\u2014')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"na?ve\n", b"?\n")
