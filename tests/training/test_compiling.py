import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.exc import ShortenTraceback

from gemmazero.errors import CompilationError
from gemmazero.model.gemma import through_block
from gemmazero.runtime import compiling
from gemmazero.storage.locate import CHECKPOINTS
from gemmazero.training.compiling import has_room_for_tiles, set_compiled, through_compiled_block
from outcome import differences, outcome
from tiny_run import SETTINGS, make_model, make_trainer, step

OF_TORCH = pytest.mark.filterwarnings(  # what its compiler does to itself; a user sees none of it
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning",
)
HELD_COMPILER = """#!{python} -SE
import os, sys, time
open("{folder}/compiling", "w").close()
while not os.path.exists("{folder}/go"):
    time.sleep(0.1)
os.execvp("g++", ["g++", *sys.argv[1:]])
"""
RAGGED = {"micro_batch_size": 3}  # of a batch of 4: two shapes, each compiled
FRUGAL = {"precision": "bf16", "gradient_checkpointing": True, "threads": 2}
MAX_TIME = 40


def test_compiler_hears_no_wish_to_stop() -> None:
    command = ["sh", "-c", "kill -INT $$; kill -TERM $$; kill -USR1 $$; echo compiled"]
    with compiling():
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"compiled\n"
    assert subprocess.run(command, capture_output=True, check=False).returncode < 0


def test_errors_of_another_kind_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), compiling():
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_training_goes_through_compiled_blocks(checkpointing: bool) -> None:
    model, calls = make_model(), []
    model.model.gradient_checkpointing = checkpointing

    def through(block: Any, *arguments: Any) -> torch.Tensor:
        calls.append(block)
        return through_block(block, *arguments)

    model.model.through = through
    ids = torch.arange(8)[None]
    evaluated = model.eval()(ids)
    assert calls == []
    torch.testing.assert_close(model.train()(ids), evaluated)
    assert calls == list(model.model.layers)


@pytest.mark.parametrize(
    ("capability", "shared", "sizes"),
    [
        ((7, 5), 65_536, []),  # T4
        ((8, 0), 166_912, [16, 64, 128, 256]),  # A100
        ((8, 9), 101_376, [16, 64, 128]),  # L4
        ((9, 0), 232_448, [16, 64, 128, 256]),  # H200
    ],
)
def test_tiles_are_for_cards_and_heads_that_have_room_for_them(
    capability: tuple[int, int], shared: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimpleNamespace(major=capability[0], minor=capability[1], shared_memory_per_block_optin=shared)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)
    device = torch.device("cuda")
    assert [size for size in (8, 16, 64, 128, 192, 256, 512) if has_room_for_tiles(device, size)] == sizes
    decoder = make_model().model
    set_compiled(decoder, device, is_compiled=True)
    assert (decoder.fuses, decoder.through) == (bool(sizes), through_compiled_block)
    set_compiled(decoder, device, is_compiled=False)
    assert (decoder.fuses, decoder.through) == (False, through_block)
    set_compiled(decoder, torch.device("cpu"), is_compiled=True)
    assert not decoder.fuses


def test_whatever_the_compiler_raises_is_told_as_that() -> None:
    def broken(*_: Any) -> Any:
        raise ShortenTraceback("no working triton", first_useful_frame=None)

    with pytest.raises(CompilationError, match="cannot compile"), compiling():
        torch.compile(torch.sin, backend=broken)(torch.ones(2))


@OF_TORCH
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("settings", [RAGGED, FRUGAL], ids=["fp32", "bf16-checkpointing"])
def test_compiled_training_is_that_of_eager_mode_but_for_rounding(tiny_data: Path, settings: dict[str, Any]) -> None:
    eager, compiled = make_trainer(tiny_data, **settings), make_trainer(tiny_data, **settings, compile=True)
    tolerance = 1e-5 if settings == RAGGED else 1e-2
    for _ in range(3):
        expected, stepped = step(eager), step(compiled)
        assert stepped.loss == pytest.approx(expected.loss, rel=tolerance)
        assert stepped.gradient_norm == pytest.approx(expected.gradient_norm, rel=10 * tolerance)
    assert list(compiled.model.state_dict()) == list(eager.model.state_dict())
    assert compiled.state_dict()["tensors"]["optimizer"].keys() == eager.state_dict()["tensors"]["optimizer"].keys()
    eager.model.load_state_dict(compiled.model.state_dict())
    eager.load_state_dict(compiled.state_dict())
    assert step(eager).loss == pytest.approx(step(compiled).loss, rel=tolerance)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where a file ``compiling`` says that the compiler has begun, and which it waits in for ``go``."""
    compiler = tmp_path / "g++"
    compiler.write_text(HELD_COMPILER.format(python=sys.executable, folder=tmp_path))
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def command(data: Path, preset: Path, **settings: Any) -> list[str]:
    words = ["train", "--preset", str(preset), "--data", str(data), "--compile"]
    for name, value in (SETTINGS | settings).items():
        words += [f"--{name.replace('_', '-')}"] + [str(value)] * (value is not True)
    return words


@contextmanager
def started(folder: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """The program in a process group of its own, as a terminal has it; it never outlives the test."""
    with subprocess.Popen(
        [sys.executable, "-m", "gemmazero", *words],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            (folder / "go").touch()


def wait_until_compiling(process: "subprocess.Popen[str]", held: Path) -> None:
    while not (held / "compiling").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def finished(folder: Path, *words: str) -> str:
    """What the program said on its way to the end."""
    with started(folder, *words) as process:
        _, talk = process.communicate()
    assert process.returncode == 0, talk
    return talk


def time_runs_out(_process: "subprocess.Popen[str]") -> None:
    time.sleep(MAX_TIME)


def sigterm(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)


def ctrl_c(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("stop", "reason", "code", "settings"),
    [
        (time_runs_out, f"--max-time {MAX_TIME}s", 75, {}),
        (sigterm, "SIGTERM", 75, FRUGAL),
        (ctrl_c, "Ctrl-C", 130, RAGGED | {"threads": 2}),
    ],
    ids=["max-time", "sigterm", "ctrl-c"],
)
def test_run_stopped_while_it_compiles_goes_on_to_the_bits_of_the_straight_one(
    stop: Any, reason: str, code: int, settings: dict[str, Any], held: Path, tiny_data: Path, tiny_preset: Path
) -> None:
    words = command(tiny_data, tiny_preset, **settings)
    limit = ["--max-time", f"{MAX_TIME}s"] if stop is time_runs_out else []
    with started(held, *words, "--out", "stopped", *limit) as process:
        wait_until_compiling(process, held)
        stop(process)
        (held / "go").touch()
        _, talk = process.communicate()
    assert process.returncode == code, talk
    assert f"stopped by {reason} after step 1, all of it saved; to go on:\n  gemmazero resume stopped\n" in talk
    assert "Traceback" not in talk
    assert "Warning" not in talk
    assert [path.name for path in (held / "stopped" / CHECKPOINTS).iterdir()] == ["step-00000001"]
    finished(held, *shlex.split(talk.splitlines()[-1])[1:])
    finished(held, *words, "--out", "straight")
    assert differences(outcome(held / "stopped"), outcome(held / "straight")) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_second_signal_ends_a_compilation_at_once(held: Path, tiny_data: Path, tiny_preset: Path) -> None:
    with started(held, *command(tiny_data, tiny_preset), "--out", "run") as process:
        wait_until_compiling(process, held)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGUSR1)
        assert process.wait() == 75, "while the compiler still waits"
        (held / "go").touch()
        _, talk = process.communicate()
    assert "stopped at once by SIG" in talk
    assert "; to go on from the last checkpoint:\n  gemmazero resume run\n" in talk


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_run_that_cannot_be_compiled_does_without_from_its_beginning_and_says_so(
    tiny_data: Path, tiny_preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command(tiny_data, tiny_preset, steps=3)
    finished(tmp_path, *words, "--out", "compiled")
    monkeypatch.setenv("CXX", str(tmp_path / "no" / "g++"))
    with started(tmp_path, *words, "--out", "run") as process:
        _, talk = process.communicate()
    assert process.returncode == 0, talk
    assert "warning: cannot compile: InvalidCxxCompiler" in talk
    assert "; the run goes on without\n" in talk
    with started(tmp_path, *words, "--out", "planned", "--dry-run") as process:
        plan, talk = process.communicate()
    assert process.returncode == 0, talk
    assert "not compiled   cannot compile: InvalidCxxCompiler" in plan
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["compile"] is False
    finished(tmp_path, *words, "--no-compile", "--out", "eager")
    assert differences(outcome(tmp_path / "run"), outcome(tmp_path / "eager")) == []
    with started(tmp_path, "resume", "compiled", "--steps", "4") as process:
        _, talk = process.communicate()
    assert process.returncode == 1, "never otherwise than it began"
    assert "error: cannot compile: InvalidCxxCompiler" in talk
    assert talk.endswith("hint: install g++, for a GPU also Triton; --no-compile goes on without, rounded otherwise\n")
    finished(tmp_path, "resume", "compiled", "--steps", "4", "--no-compile")
