"""C++ that is compiled where it is used: made once, made again when it is damaged, and told of where it cannot be."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmazero.errors import CompilationError
from gemmazero.native_code import compiler, native_code

ASSERT = "from pathlib import Path; from gemmazero.native_code import native_code; assert "  # … in another process
needs_a_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's libraries are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gemmazero"


def source(folder: Path, value: str = "NUMBER") -> Path:
    file = folder / "one.cpp"
    file.write_text(f'extern "C" int number() {{ return {value}; }}\n')
    return file


@needs_a_compiler
def test_code_runs_with_the_definitions_it_is_given(tmp_path: Path) -> None:
    assert [native_code(source(tmp_path), [f"NUMBER={number}"]).number() for number in (3, 4)] == [3, 4]


@needs_a_compiler
def test_it_is_compiled_once_and_again_when_its_source_has_changed(tmp_path: Path, cache: Path) -> None:
    native_code(source(tmp_path, "5"))
    (kept,) = cache.iterdir()
    made = kept.stat()
    assert native_code(source(tmp_path, "5")).number() == 5
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert native_code(source(tmp_path, "6")).number() == 6
    assert len(list(cache.iterdir())) == 2


@needs_a_compiler
def test_code_for_other_instructions_is_other_code(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home folder may be shared by machines of several kinds: the compiler tells what it compiles for."""
    (real,), other = compiler() or [""], tmp_path / "other"
    other.write_text(f'#!/bin/sh\nexec "{real}" "$@" -DINSTRUCTIONS=$INSTRUCTIONS\n')
    other.chmod(0o755)
    monkeypatch.setenv("CXX", str(other))
    for instructions in ("few", "more", "few"):
        monkeypatch.setenv("INSTRUCTIONS", instructions)
        native_code(source(tmp_path, "5"))
    assert len(list(cache.iterdir())) == 2


@needs_a_compiler
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:0],
        lambda whole: whole[:4] + b", once",
        lambda whole: whole[:3000],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole.replace(b"number", b"numbed"),
    ],
    ids=["empty", "garbage", "its head", "a half", "all but a byte", "changed"],
)
def test_a_damaged_library_is_made_again(tmp_path: Path, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    """In other processes: one that loads a library without its end is killed."""
    program = f"{ASSERT}native_code(Path({str(source(tmp_path, '5'))!r})).number() == 5"
    subprocess.run([sys.executable, "-c", program], check=True)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    subprocess.run([sys.executable, "-c", program], check=True)


@needs_a_compiler
def test_processes_that_compile_at_once_each_load_a_whole_library(tmp_path: Path) -> None:
    program = f"{ASSERT}native_code(Path({str(source(tmp_path, '5'))!r})).number() == 5"
    together = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [process.wait() for process in together] == [0] * 4


@needs_a_compiler
def test_a_compiler_is_a_command_with_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = compiler() or [""]
    monkeypatch.setenv("CXX", f"{found} -DNUMBER=7")
    assert native_code(source(tmp_path)).number() == 7


@pytest.mark.parametrize("named", ['"g++', "g++ \\"])
def test_a_compiler_whose_name_has_no_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("CXX", named)
    with pytest.raises(CompilationError, match="in CXX is no command: No "):
        native_code(source(tmp_path, "5"))


def test_a_compiler_that_is_named_and_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(CompilationError, match='CXX, "/nowhere/g\\+\\+", is not there'):
        native_code(source(tmp_path, "5"))


@needs_a_compiler
def test_without_a_home_a_place_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/proc/nowhere")
    with pytest.raises(CompilationError, match="no place for what is compiled") as raised:
        native_code(source(tmp_path, "5"))
    assert "XDG_CACHE_HOME" in raised.value.hint


def test_without_a_compiler_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilationError, match="no C\\+\\+ compiler") as raised:
        native_code(source(tmp_path, "5"))
    assert "install g++" in raised.value.hint


@needs_a_compiler
def test_what_the_compiler_refuses_is_told_in_its_words_and_nothing_is_left(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(CompilationError, match=r"cannot compile: .*error: .*unknown"):
        native_code(source(tmp_path, "unknown"))
    assert list(cache.iterdir()) == []


@needs_a_compiler
def test_a_cache_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file")
    with pytest.raises(CompilationError, match="no place") as raised:
        native_code(source(tmp_path, "5"))
    assert "XDG_CACHE_HOME" in raised.value.hint


@needs_a_compiler
def test_the_compiler_that_the_environment_names_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", shutil.which("false") or "false")
    with pytest.raises(CompilationError, match="false"):
        native_code(source(tmp_path, "5"))
