import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from gemmazero.cli.app import app


def chat(model: Path, *lines: str, options: Sequence[str] = ()) -> Result:
    """What comes of saying ``lines`` and then ending the input."""
    command = ["chat", "--model", str(model), "--max-tokens", "6", "--seed", "1", "--device", "cpu", *options]
    result = CliRunner().invoke(app, command, input="".join(f"{line}\n" for line in lines))
    assert result.exit_code == 0, result.exception
    return result


def test_chat_says_which_of_chat_and_story_it_is(chat_model: Path, story_model: Path) -> None:
    assert "chat: the model takes turns" in chat(chat_model).stderr
    assert "story: the model knows no turns" in chat(story_model).stderr


def test_only_replies_are_results(story_model: Path) -> None:
    result = chat(story_model, "/help", "/system A cat.", "/system", "/undo")
    assert result.stdout == ""
    for part in ("/save FILE", "system: A cat.\nsystem: A cat.\n", "nothing to take back"):
        assert part in result.stderr


def test_verbose_tells_the_speed_of_each_reply_and_changes_no_result(chat_model: Path) -> None:
    quiet, verbose = chat(chat_model, "Hi", "/system", "You?"), chat(chat_model, "Hi", "You?", options=["--verbose"])
    assert verbose.stdout == quiet.stdout
    assert verbose.stderr.count("6 tokens in") == 2
    assert "the first after" not in quiet.stderr


def test_8_bit_weights_talk(chat_model: Path) -> None:
    assert chat(chat_model, "Hi", options=["--dtype", "int8"]).stdout != "\n"


def test_empty_line_writes_a_story_on_and_is_no_turn_of_a_chat(chat_model: Path, story_model: Path) -> None:
    assert chat(story_model, "Once", "").stdout != chat(story_model, "Once").stdout
    assert chat(chat_model, "Once", "").stdout == chat(chat_model, "Once").stdout


def test_saved_conversation_is_loaded_again(chat_model: Path, tmp_path: Path) -> None:
    talk = tmp_path / "talk.json"
    saved = chat(chat_model, "/system Be kind.", "Hello", "Again", f"/save {talk}", "/undo", "/reset", "/undo")
    for part in ("saved 2 turns", 'taken back: "Again"', "begun anew", "nothing to take back"):
        assert part in saved.stderr
    messages = json.loads(talk.read_text(encoding="utf-8"))["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    loaded = chat(chat_model, f"/load {talk}", "/system", "/undo")
    for part in ("loaded 2 turns", "system: Be kind.", 'taken back: "Again"'):
        assert part in loaded.stderr
    shortened = chat(chat_model, f"/load {talk}", "/undo", f"/save {talk}", f"/load {talk}").stderr
    assert f"saved 1 turn to {talk}" in shortened
    assert f"loaded 1 turn from {talk}" in shortened


def test_file_that_holds_no_conversation_is_answered_with_what_does(chat_model: Path, tmp_path: Path) -> None:
    tale = tmp_path / "tale.txt"
    tale.write_text("Once upon a time", encoding="utf-8")
    told = chat(chat_model, f"/load {tale}").stderr
    assert f'error: "{tale}" is not JSON: ' in told
    assert "hint: /load takes a file that /save wrote\n" in told


def test_mistakes_are_told_and_the_conversation_goes_on(chat_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")
    nowhere = tmp_path / "nowhere" / "talk.json"
    result = chat(
        chat_model, "/nope", "/save", f"/load {broken}", f"/load {nowhere}", f"/save {nowhere}", "/save .", "x" * 9000
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 7
    for part, error in zip(
        ('"/nope"', "/save needs", "messages", "no such", "cannot write", 'cannot write "."', "tokens long"),
        errors,
        strict=True,
    ):
        assert part in error


def test_a_model_that_gives_no_numbers_says_nothing_but_that(chat_model: Path, tmp_path: Path) -> None:
    weights = load_file(chat_model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    shutil.copytree(chat_model, tmp_path / "broken")
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    result = chat(tmp_path / "broken", "Hi", "You?", "/undo")
    assert result.stdout == ""
    assert result.stderr.count("error: the model's logits are not numbers\nhint: ") == 2


def test_save_that_fails_leaves_what_was_saved_before(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = tmp_path / "talk.json"
    talk.write_text("precious", encoding="utf-8")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "error: the disk is full" in chat(chat_model, "Hello", f"/save {talk}").stderr
    assert talk.read_text(encoding="utf-8") == "precious"
    assert list(tmp_path.iterdir()) == [talk]


def test_closed_input_ends_the_conversation(story_model: Path) -> None:
    program = [sys.executable, "-m", "gemmazero", "chat", "--model", str(story_model)]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Traceback" not in done.stderr


def test_exit_ends_the_conversation(story_model: Path) -> None:
    assert chat(story_model, "/exit", "Once").stdout == ""


def test_ctrl_c_stops_the_reply_and_not_the_program(story_model: Path) -> None:
    command = [sys.executable, "-m", "gemmazero", "chat", "--model", str(story_model), "--max-tokens", "8000"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Once\n")
        process.stdin.flush()
        assert process.stdout.read(1)  # it speaks
        process.send_signal(signal.SIGINT)
        rest, talk = process.communicate(b"/undo\n")
    assert process.returncode == 0
    assert len(rest) < 8000
    assert 'taken back: "Once"' in talk.decode()


def test_conversation_larger_than_any_context_is_not_read(chat_model: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_text(json.dumps({"messages": [], "more": "x" * 2**20}), encoding="utf-8")
    assert "and at most 1048576 are read" in chat(chat_model, f"/load {large}").stderr


def test_pipe_is_no_conversation(chat_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in chat(chat_model, f"/load {tmp_path / 'pipe'}").stderr
