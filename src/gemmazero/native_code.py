"""C++ → a library in this process: compiled for this very processor at its first use, and kept for later ones."""

import ctypes
import hashlib
import os
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
_HINT = "install g++ or clang++, or name one in CXX; --no-compile goes on without"


def compiler() -> str | None:
    """The C++ compiler: what the environment names as CXX, else the first one on the path; None where there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *_COMPILERS)))), None)


def native_code(source: Path, definitions: Sequence[str] = ()) -> ctypes.CDLL:
    """The functions that ``source`` exports, compiled with ``definitions``, "NAME=value" each.

    What was compiled stays under ``~/.cache/gemmazero``. Its name tells of the source, the compiler and the processor's
    instructions, so that it is used for nothing else.

    Raises:
        CompilationError: there is no compiler, or it fails.
    """
    command = [_required_compiler(), *_FLAGS, *(f"-D{definition}" for definition in definitions)]
    instructions = _output_of([*command, "-E", "-dM", "-x", "c++", os.devnull])  # the compiler's own constants
    digest = hashlib.sha256(b"\0".join((source.read_bytes(), instructions, *map(str.encode, command))))
    library = _kept_libraries() / f"{source.stem}-{digest.hexdigest()[:16]}.so"
    try:
        if library.is_file():
            with suppress(OSError):  # it was damaged when a machine went down
                return ctypes.CDLL(str(library))
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            _output_of([*command, str(source), "-o", str(made)])
            made.replace(library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilationError(f'"{library}" cannot be made or loaded: {error}', "set XDG_CACHE_HOME") from error


def _required_compiler() -> str:
    found = compiler()
    if found is None:
        raise CompilationError("there is no C++ compiler", _HINT)
    return found


def _output_of(command: list[str]) -> bytes:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").splitlines()
        reason = next((line for line in told if "error" in line), f"exit code {error.returncode}")
        raise CompilationError(f'"{command[0]}" cannot compile: {reason}', _HINT) from error
    except OSError as error:
        raise CompilationError(f'"{command[0]}" cannot be run: {error.strerror}', _HINT) from error


def _kept_libraries() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gemmazero"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompilationError(f'cannot make "{cache}": {error.strerror}', "set XDG_CACHE_HOME") from error
    return cache
