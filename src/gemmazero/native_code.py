"""C++ → a library in this process: compiled for this very processor at its first use, and kept for later ones."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gemmazero.errors import CompilationError

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-pthread",
)
_HINT = "install g++ or clang++, or name a compiler in CXX; --no-compile goes on without"


def compiler() -> list[str] | None:
    """The C++ compiler's command: what the environment has in CXX, else the first on the path; None if there is none.

    Raises CompilationError where CXX is no command, or names something that is not there.
    """
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise CompilationError(f"what is in CXX is no command: {error}", _HINT) from error
    if named:
        if shutil.which(named[0]) is None:
            raise CompilationError(f'the compiler in CXX, "{named[0]}", is not there', _HINT)
        return named
    found = next(filter(None, map(shutil.which, _COMPILERS)), None)
    return None if found is None else [found]


def native_code(source: Path, definitions: Sequence[str] = ()) -> ctypes.CDLL:
    """The functions that ``source`` exports, compiled with ``definitions``, "NAME=value" each.

    What was compiled stays under ``~/.cache/gemmazero``. Its name tells of the source, the compiler and the processor's
    instructions, so that it is used for nothing else, and of its own bytes: one that was damaged is made again.

    Raises:
        CompilationError: there is no compiler, or it fails.
    """
    found = compiler()
    if found is None:
        raise CompilationError("there is no C++ compiler", _HINT)
    command = [*found, *_FLAGS, *(f"-D{definition}" for definition in definitions)]
    instructions = _output_of([*command, "-E", "-dM", "-x", "c++", os.devnull])  # the compiler's own constants
    digest = hashlib.sha256(b"\0".join((source.read_bytes(), instructions, *map(os.fsencode, command))))
    place = _kept_libraries() / f"{source.stem}-{digest.hexdigest()[:16]}"
    try:
        for library in place.parent.glob(f"{place.name}-*.so"):
            with suppress(OSError):  # it is of another system, or gone
                if library.name == f"{place.name}-{_digest_of(library)}.so":  # one without its end kills who loads it
                    return ctypes.CDLL(str(library))
        with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
            made = Path(temporary) / f"{place.name}.so"
            _output_of([*command, str(source), "-o", str(made)])
            library = made.replace(f"{place}-{_digest_of(made)}.so")
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilationError(f'"{place}" cannot be made or loaded: {error}', "set XDG_CACHE_HOME") from error


def _digest_of(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _output_of(command: list[str]) -> bytes:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    except subprocess.CalledProcessError as error:
        told = [line for line in error.stderr.decode(errors="replace").splitlines() if line.strip()]
        reason = next((line for line in told if "error: " in line and "collect2" not in line), " ".join(told[:1]))
        hint = "--no-compile goes on without; CXX names another compiler"
        raise CompilationError(
            f'"{command[0]}" cannot compile: {reason or f"exit code {error.returncode}"}', hint
        ) from error
    except OSError as error:
        raise CompilationError(f'"{command[0]}" cannot be run: {error.strerror}', _HINT) from error


def _kept_libraries() -> Path:
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "gemmazero"
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # the second where there is no home
        raise CompilationError(f"there is no place for what is compiled: {error}", "set XDG_CACHE_HOME") from error
    return cache
