"""Every command × what can go wrong: a message, a hint, exit code 1 or 2, and nothing left behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.storage.model_folder import save_model
from gemmazero.training.settings import Request
from program import run_forked
from tiny_run import SETTINGS, make_model, prepare_data, train, write_preset, write_text

TRAIN = "train --preset tiny.json --data animals --out new --steps 2 --warmup-steps 0 --sequence-length 16"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad inputs; no case of the matrix may change it."""
    world = tmp_path_factory.mktemp("world")
    for name in ("empty.txt", "empty.jsonl", "empty.parquet", "empty.json", "taken"):
        (world / name).touch()
    (world / "invalid.txt").write_bytes(b"\xff\xfe\xfa")
    (world / "invalid.jsonl").write_bytes(b'{"text": "\xff"}\n')
    (world / "foreign").mkdir()
    (world / "foreign" / "thesis.txt").write_text("precious")
    data = prepare_data(world / "animals", documents=80)
    write_text(world / "short.jsonl", documents=1)
    bpe = PrepareConfig(tokenizer="bpe:270", validation_fraction=0.2)
    prepare(str(world / "animals.jsonl"), world / "other", bpe)
    prepare(str(world / "short.jsonl"), world / "short", PrepareConfig(tokenizer="bytes", validation_fraction=0.0))
    preset = write_preset(world / "tiny.json")
    train(Request(out=world / "run", preset=str(preset), data=str(data), settings=SETTINGS), stop_after=4)
    for model in ("model", "torn"):
        (world / model).mkdir()
        save_model(make_model(), Tokenizer.load(data), world / model)
    (world / "torn" / "model.safetensors").write_bytes(b"")
    return world


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@dataclass(frozen=True)
class Case:
    """A command that cannot succeed, what its message says, and what its hint says."""

    command: str
    message: str = ""
    hint: str = ""
    code: int = 1


def training(options: str) -> str:
    """A training that would succeed, but for ``options``."""
    return f"{TRAIN} {options}"


MATRIX = {
    "no such file": [
        Case("prepare emptyy.txt", "no such file or folder", 'did you mean "empty.txt"'),
        Case(training("--preset absent.json"), "absent.json"),
        Case("resume absent", "absent", "gemmazero train"),
        Case("eval model --data absent", "absent", "gemmazero prepare"),
        Case("generate Once --model absent", "absent"),
        Case("chat --model absent", "absent"),
        Case("convert absent new", "absent"),
    ],
    "empty": [
        Case("prepare empty.txt --out new"),
        Case("prepare empty.jsonl --out new"),
        Case("prepare empty.parquet --tokenizer bytes --out new", "empty.parquet"),
        Case(training("--preset empty.json"), "empty.json"),
        Case("generate --model model --prompts empty.txt", "empty.txt"),
        Case("convert torn new", "torn"),
    ],
    "invalid UTF-8": [
        Case("prepare invalid.jsonl --tokenizer bytes --out new", "not valid UTF-8"),
        Case("generate --model model --prompts invalid.txt", "not valid UTF-8"),
    ],
    "too small or too long": [
        Case("prepare short.jsonl --tokenizer bpe:8192 --out new", "too small for the tokenizer", "--tokenizer bpe:"),
        Case(training("--data short --sequence-length 64"), "less than one window", "--sequence-length"),
        Case(training("--sequence-length 65"), "65", code=2),
        Case(f"generate {'x' * 65} --model model", "context", code=2),
    ],
    "of another vocabulary": [
        Case("resume run --data other", "other"),
        Case("eval model --data other", "another tokenizer", "gemmazero prepare"),
    ],
    "unknown name": [
        Case(training("--preset nanoo"), '"nanoo"', "did you mean nano", code=2),
        Case("prepare animals.jsonl --tokenizer gpt-2", '"gpt-2"', "did you mean gpt2", code=2),
    ],
    "occupied": [
        Case("prepare animals.jsonl --out foreign --overwrite", '"foreign" exists'),
        Case(training("--out foreign"), '"foreign" exists', "--out"),
        Case("convert model foreign", "exists already", "--overwrite"),
    ],
}
CASES = [
    pytest.param(case, id=f"{kind}: {case.command.replace(TRAIN, 'train')[:60]}")
    for kind, cases in MATRIX.items()
    for case in cases
]


def check_told(done: "subprocess.CompletedProcess[str]", message: str = "", hint: str = "", code: int = 1) -> None:
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert (len(errors), len(hints)) == (1, 1), done.stderr
    assert message in errors[0]
    assert hint in hints[0]


@pytest.mark.parametrize("case", CASES)
def test_error_is_told_with_a_hint_and_leaves_nothing_behind(case: Case, world: Path) -> None:
    before = contents(world)
    done = run_forked(world, *case.command.split())
    check_told(done, case.message, case.hint, case.code)
    assert contents(world) == before


def test_every_command_is_in_the_matrix() -> None:
    commands = {case.command.split()[0] for cases in MATRIX.values() for case in cases}
    assert commands == {"prepare", "train", "resume", "eval", "generate", "chat", "convert"}


# ---- disks


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at ``folder``."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for 16 kB."""
    yield from mounted(tmp_path / "disk", "size=16k")


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "ro")


WRITING = ["prepare animals.jsonl --tokenizer bytes --out", training("--out"), "convert model"]


@pytest.mark.parametrize("command", WRITING)
def test_full_disk_is_told_and_holds_nothing_half_written(command: str, world: Path, small_disk: Path) -> None:
    before = contents(world)
    done = run_forked(world, *command.split(), small_disk / "new")
    check_told(done, "disk", "space")
    left = {path.name for path in small_disk.rglob("*") if path.is_file()}
    assert left <= {"run.json", "metrics.jsonl"}, "what a run may have before its first checkpoint"
    assert contents(world) == before


def test_full_disk_does_not_harm_a_conversation_saved_before(world: Path, small_disk: Path) -> None:
    (small_disk / "talk.json").write_text("precious")
    (small_disk / "filler").write_bytes(bytes(8 * 1024))
    talk = f"/system {'x' * 9000}\n/save {small_disk}/talk.json\n"  # more than there is room for
    done = run_forked(world, "chat", "--model", "model", input=talk)
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert "hint: " in done.stderr
    assert (small_disk / "talk.json").read_text() == "precious"
    assert {path.name for path in small_disk.iterdir()} == {"talk.json", "filler"}


@pytest.mark.parametrize("command", WRITING[:2])
def test_read_only_disk_is_told(command: str, world: Path, read_only_disk: Path) -> None:
    before = contents(world)
    check_told(run_forked(world, *command.split(), read_only_disk / "new"), str(read_only_disk))
    assert contents(world) == before


# ---- pipes


@pytest.mark.parametrize(
    "command",
    [
        "prepare animals.jsonl --tokenizer bytes --out new",
        pytest.param("eval run", marks=pytest.mark.slow),  # as the others, and as tests/cli/test_evaluate.py
        "generate Once --model model",
    ],
)
def test_closed_pipe_ends_quietly(command: str, world: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-m", "gemmazero", *command.replace("new", str(tmp_path / "new")).split()]
    done = subprocess.run(
        program, cwd=world, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.returncode == 1
    assert not {"Traceback", "error:", "BrokenPipe"} & set(done.stderr.split())
