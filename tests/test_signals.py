"""Ctrl-C, SIGTERM, SIGUSR1 and ``--max-time`` against real processes, at chosen moments of what they do."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from typer.testing import CliRunner

from gemmazero import api
from gemmazero.cli.app import app
from gemmazero.cli.signals import TwoSignals
from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.storage.model_folder import save_model
from tiny_run import MODEL, SETTINGS, make_model

if not Path("/proc/self/status").exists():
    pytest.skip("the moments are chosen by what /proc tells", allow_module_level=True)

GEMMAZERO = [sys.executable, "-m", "gemmazero"]
AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--mount-proc"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


@contextmanager
def started(
    folder: Path, *command: object, prefix: Sequence[str] = (), stdin: int = DEVNULL, stderr: int = PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """A program that runs in ``folder``; it never outlives the test."""
    words = [*prefix, *map(str, command)]
    with subprocess.Popen(words, cwd=folder, text=True, stdin=stdin, stdout=PIPE, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code, and all that was said on stderr and not read before."""
    _, talk = process.communicate()
    return process.returncode, talk


def wait_until_ready(process: "subprocess.Popen[str]") -> None:
    """Until the program says so on stdout."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def read_up_to(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Read stderr up to the line that begins so."""
    assert process.stderr is not None
    talk = []
    for line in process.stderr:
        talk.append(line)
        if line.startswith(beginning):
            return
    raise AssertionError("".join(talk))


def hold_while(process: "subprocess.Popen[str]", folder: Path, pattern: str) -> None:
    """Stop the process with a SIGSTOP at a moment when a path in ``folder`` has such a name."""
    while process.poll() is None:
        if any(folder.glob(pattern)):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if any(folder.glob(pattern)):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    raise AssertionError(ended(process))


def deliver(pid: int, number: signal.Signals) -> None:
    """Send a signal, and wait until the system has handed it over: the next one is then another one."""
    os.kill(pid, number)
    pending = f"{1 << (number - 1):016x}"
    while pending in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.001)


def child_of(pid: int) -> int:
    """The only child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def words_in(talk: str) -> list[str]:
    """The words after ``gemmazero`` in the command that the last line of ``talk`` tells to go on by."""
    name, *words = shlex.split(talk.splitlines()[-1])
    assert name == "gemmazero"
    return words


@pytest.fixture
def process_1() -> list[str]:
    """What makes of a command process 1 of a process namespace of its own."""
    try:
        subprocess.run([*AS_PROCESS_1, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no process namespace can be made here: {error}")
    return AS_PROCESS_1


@pytest.fixture
def train(tiny_data: Path, tiny_preset: Path) -> list[object]:
    """A command of forty steps of milliseconds, each of which is saved."""
    return train_command(tiny_data, tiny_preset, steps=40, save_every=1)


def train_command(data: Path, preset: Path, **settings: object) -> list[object]:
    options = SETTINGS | {"validate_every": 1_000_000} | settings
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return [*GEMMAZERO, "train", "--preset", preset, "--data", data, "--out", "run", *words]


def write_long_text(file: Path, documents: int) -> Path:
    """A JSONL file of documents of a hundred thousand characters."""
    words = "The cat sat on the mat. " * 4000
    file.write_text("".join(json.dumps({"text": f"{number} {words}"}) + "\n" for number in range(documents)))
    return file


def steps_told(run: Path) -> list[int]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["event"] == "stepped"]


def saved_steps(run: Path) -> list[int]:
    """The steps of the checkpoints, each of which is good."""
    inspections = list(api.verify(run))
    assert [inspection.reason for inspection in inspections] == [""] * len(inspections)
    return sorted(inspection.step for inspection in inspections)


def test_stopped_run_goes_on_by_the_command_it_prints(
    train: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with started(tmp_path, *train) as process:
        hold_while(process, run / "checkpoints", ".step-*.writing")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        code, talk = ended(process)
    assert code == 75, talk
    assert "stopped by SIGTERM after step" in talk
    assert steps_told(run)[-1] == saved_steps(run)[-1]

    with started(tmp_path, *GEMMAZERO, *words_in(talk)) as process:
        hold_while(process, run / "checkpoints", ".step-*.writing")
        before = saved_steps(run)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT):
            process.send_signal(number)
        code, talk = ended(process)
    assert code == 75, talk
    assert "stopped at once by SIG" in talk
    assert saved_steps(run)[-1] in (before[-1], before[-1] + 1), "the save that was under way may have come to its end"

    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, words_in(talk)).exit_code == 0
    assert steps_told(run) == list(range(1, 41))
    assert saved_steps(run)[-1] == 40


LONG_CALL = """
import hashlib
from gemmazero.cli.signals import TwoSignals, install
install()
with TwoSignals() as two_signals:
    two_signals.ask(print, "gemmazero resume 'a b'")
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # many minutes of C
"""
CALLING = [sys.executable, "-c", LONG_CALL]


def interrupt_twice(process: "subprocess.Popen[str]", pid: int, number: signal.Signals) -> None:
    deliver(pid, number)
    assert process.poll() is None
    os.kill(pid, number)


def check_second_signal(process: "subprocess.Popen[str]", pid: int, number: signal.Signals) -> None:
    interrupt_twice(process, pid, number)
    told = f"\nstopped at once by {NAMES[number]}; to go on from the last checkpoint:\n  gemmazero resume 'a b'\n"
    assert ended(process) == (CODES[number], told)


@pytest.mark.parametrize("number", CODES, ids=NAMES.get)
def test_second_signal_ends_the_process_in_the_middle_of_a_long_call(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, *CALLING) as process:
        wait_until_ready(process)
        check_second_signal(process, process.pid, number)


def test_second_signal_ends_process_1_in_the_middle_of_a_long_call(process_1: list[str], tmp_path: Path) -> None:
    with started(tmp_path, *CALLING, prefix=process_1) as process:
        wait_until_ready(process)
        check_second_signal(process, child_of(process.pid), signal.SIGTERM)


def test_ctrl_c_that_the_shell_ignores_is_heard(tmp_path: Path) -> None:
    with started(tmp_path, *CALLING, prefix=["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]) as process:
        wait_until_ready(process)
        check_second_signal(process, process.pid, signal.SIGINT)


def test_second_signal_ends_a_process_whose_stderr_nobody_reads(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    with started(tmp_path, *CALLING, stderr=writer) as process:
        wait_until_ready(process)
        interrupt_twice(process, process.pid, signal.SIGTERM)
        assert process.wait() == 75
    os.close(reader)
    os.close(writer)


def test_signal_while_the_program_is_imported_ends_it_with_the_command_that_does_it_again(tmp_path: Path) -> None:
    importing = """
import os, signal, sys
from gemmazero.__main__ import main
class Interrupting:
    def find_spec(self, name, *rest):
        if name == "gemmazero.cli.boundary":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["gemmazero", "eval", "a b"]
main()
"""
    with started(tmp_path, sys.executable, "-c", importing) as process:
        assert ended(process) == (75, "\nstopped at once by SIGTERM; to do it again:\n  gemmazero eval 'a b'\n")


def test_signal_while_the_interpreter_ends_changes_nothing(tmp_path: Path) -> None:
    ending = """
import atexit, os, signal, sys
from gemmazero.__main__ import main
sys.argv = ["gemmazero", "--version"]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    atexit.register(os.kill, os.getpid(), number)
main()
"""
    with started(tmp_path, sys.executable, "-c", ending) as process:
        assert ended(process) == (0, "")


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in CODES]


def test_all_is_as_before_once_the_command_is_left() -> None:
    before, threads = handlers(), set(threading.enumerate())
    with TwoSignals():
        assert set(handlers()).isdisjoint(before)
        (counting,) = set(threading.enumerate()) - threads
    counting.join(timeout=60)
    assert not counting.is_alive()
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1


def other_threads() -> list[str]:
    """The names of the threads that live, but those that read batches ahead."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name != "read ahead")


def test_library_sets_no_handler(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    before, threads = handlers(), other_threads()
    settings = SETTINGS | {"steps": 2, "warmup_steps": 0}
    for _ in api.train(preset=str(tiny_preset), data=tiny_data, out=tmp_path / "run", **settings):
        assert handlers() == before
        assert other_threads() == threads
        assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("what", ["folder/train-00000.bin", "progress.json"])
def test_sigterm_while_data_is_prepared_leaves_what_is_finished_alone(what: str, tmp_path: Path) -> None:
    write_long_text(tmp_path / "long.jsonl", documents=260)
    command = ["prepare", "long.jsonl", "--out", "new data", "--tokenizer", "bytes", "--workers", "2"]
    with started(tmp_path, *GEMMAZERO, *command) as process:
        hold_while(process, tmp_path, f".new data.unfinished/{what}")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        code, talk = ended(process)
    assert code == 75, talk
    assert "Traceback" not in talk
    assert talk.endswith(f"stopped at once by SIGTERM; to do it again:\n  gemmazero {shlex.join(command)}\n")
    is_begun = what == "progress.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new data.unfinished"] * is_begun + ["long.jsonl"]

    with started(tmp_path, *GEMMAZERO, *words_in(talk)) as process:
        code, talk = ended(process)
    assert code == 0, talk
    assert ("going on after 16,777,216 tokens" in talk) == is_begun
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.jsonl", "new data"]


@pytest.mark.parametrize("where", ["process_1", pytest.param("any_process", marks=pytest.mark.slow)])
def test_validation_is_given_up_and_what_was_learned_is_saved(
    where: str, request: pytest.FixtureRequest, tiny_preset: Path, tmp_path: Path
) -> None:
    prefix = request.getfixturevalue("process_1") if where == "process_1" else []
    text = write_long_text(tmp_path / "long.jsonl", documents=60)
    prepare(str(text), tmp_path / "long", PrepareConfig(tokenizer="bytes", validation_fraction=0.9))
    command = train_command(tmp_path / "long", tiny_preset, validate_every=1, validation_tokens=0, save_every=100)
    with started(tmp_path, *command, "--json", prefix=prefix) as process:
        read_up_to(process, "step 1 of")  # the validation that follows takes most of a minute
        os.kill(child_of(process.pid) if prefix else process.pid, signal.SIGUSR1)
        told, talk = process.communicate()
    assert process.returncode == 75, talk
    record = json.loads(told)
    assert (record["step"], record["validation_loss"], record["finished"]) == (1, None, False)
    assert "validation loss" not in talk
    assert "stopped by SIGUSR1 after step 1, all of it saved; to go on:\n  gemmazero resume run\n" in talk
    assert steps_told(tmp_path / "run") == saved_steps(tmp_path / "run") == [1]


@pytest.fixture
def model(tiny_data: Path, tmp_path: Path) -> Path:
    """A model folder of random weights, which writes on and on."""
    folder = tmp_path / "model"
    folder.mkdir()
    model = make_model(config=replace(MODEL, max_position_embeddings=100_000, eos_token_id=None))
    save_model(model, Tokenizer.load(tiny_data), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", [["generate", "Once", "--max-tokens", "90000"], ["chat", "--max-tokens", "90000"]])
def test_one_sigterm_ends_a_command_that_has_nothing_to_save(command: list[str], model: Path, tmp_path: Path) -> None:
    command = [*command, "--model", "model"]
    with started(tmp_path, *GEMMAZERO, *command, stdin=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("Once\n")
        process.stdin.flush()
        assert process.stdout.read(1), "it speaks"
        process.send_signal(signal.SIGTERM)
        code, talk = ended(process)
    assert code == 75, talk
    assert talk.endswith(f"stopped at once by SIGTERM; to do it again:\n  gemmazero {shlex.join(command)}\n")


@pytest.mark.slow
def test_run_stops_when_its_time_is_over(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    command = train_command(tiny_data, tiny_preset, steps=10_000_000, save_every=10_000_000, max_time="20s")
    with started(tmp_path, *command) as process:
        code, talk = ended(process)
    assert code == 75, talk
    assert "stopped by --max-time 20s after step" in talk
    assert words_in(talk) == ["resume", "run"]
    assert saved_steps(tmp_path / "run") == steps_told(tmp_path / "run")[-1:]
