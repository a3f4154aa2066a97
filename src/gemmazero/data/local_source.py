"""Files and folders on this machine as a source."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from gemmazero.config import PrepareConfig
from gemmazero.data.compression import COMPRESSIONS, opened, reading
from gemmazero.data.documents import Documents, Layout, Source, Splits, refuse_utf16
from gemmazero.data.formats import PARQUET, READABLE, READERS, TEXT, TOKENS, format_of
from gemmazero.data.shards import MANIFEST, split_of
from gemmazero.data.text_reader import separator_bytes
from gemmazero.data.token_reader import read_tokens
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.errors import DataError, UsageError
from gemmazero.regular_file import open_regular

_VALIDATION = re.compile(r"(validation|valid|val)(?![a-z])", re.IGNORECASE)
_ANY_NAME = ("utf-8", "surrogateescape")  # of bytes that are no UTF-8, too
_Read = Callable[[BinaryIO, Path], Iterator[str | None]]
_State = tuple[int, int, int]  # of a file: size, time of its last change, inode


def open_local(path: Path, config: PrepareConfig) -> Source:
    """The documents of a file, or of a folder and its sub-folders in the order of their paths.

    In a folder, what is called ``validation…``, ``valid…`` or ``val…``, file or sub-folder, is the validation split.
    Passed over there, and told, are files of other kinds, links to folders, and data folders; hidden ones silently.
    Raises DataError where there is nothing to read, UsageError for an option that means nothing here.
    """
    if tokens := token_files(path):
        if config.document_separator is not None:
            raise UsageError("--document-separator is for text, and documents of ids end with an id", "leave it out")
        return _source(path, tokens, _token_reading(path, config))
    if _is_data_folder(path):
        raise DataError(f'"{path}" is a data folder: its text is tokens already', f"gemmazero train --data {path}")
    found = _visible(path) if path.is_dir() else [path]
    files = [file for file in found if format_of(file) in READERS and (file == path or file.is_file())]
    if not files:
        what = f'no text files in "{path}"' if path.is_dir() else f'"{path}" is of no known kind'
        raise DataError(what, f"the files that can be read are {READABLE}")
    if config.document_separator is not None and not any(format_of(file) in TEXT for file in files):
        raise UsageError(f'--document-separator is for .txt and .md files, and "{path}" has none', "leave it out")
    taken = set(files)
    passed_over = tuple(portable(other.relative_to(path).as_posix()) for other in found if other not in taken)
    return _source(path, files, _text_reading(config, is_alone=len(files) == 1), passed_over)


def token_files(path: Path) -> list[Path]:
    """The files of token ids that ``path`` is: a .bin file, or nanoGPT's folder of train.bin and val.bin."""
    if not path.is_dir():
        return [path] if format_of(path) == TOKENS and path.exists() else []
    found = [file for name in ("train.bin", "val.bin") if (file := path / name).is_file()]
    return found if found and found[0].name == "train.bin" else []


def portable(name: str) -> str:
    r"""The name of a file, as any machine can spell it: bytes that are no UTF-8 as ``\xHH``."""
    return name.encode(*_ANY_NAME).decode("utf-8", "backslashreplace")


def refuse_without_tokenizer(path: Path) -> None:
    """Raises UsageError where ``path`` is files of token ids."""
    if tokens := token_files(path):
        what = f'"{tokens[0]}" holds token ids, which do not say what made them'
        raise UsageError(what, "--tokenizer names it: gpt2 for what nanoGPT writes")


def _source(path: Path, files: list[Path], read: _Read, passed_over: tuple[str, ...] = ()) -> Source:
    states = {file: _state_of(file) for file in files}  # before they are hashed
    held_out = {
        file: state for file, state in states.items() if path.is_dir() and _is_validation(file.relative_to(path))
    }
    training = {file: state for file, state in states.items() if file not in held_out}
    if not training:
        raise DataError(
            f'"{path}" holds validation files only', f"gemmazero prepare {next(iter(held_out))} takes one for training"
        )
    name = portable(path.resolve().name)
    validation: Documents | None = partial(_read_files, held_out, read) if held_out else None
    splits = Splits(name, partial(_read_files, training, read), validation)
    return Source(name, _fingerprint(path, files), lambda: splits, passed_over)


def _text_reading(config: PrepareConfig, *, is_alone: bool) -> _Read:
    separator = config.document_separator
    layout = Layout(config.text_column, None if separator is None else separator_bytes(separator))

    def read(file: BinaryIO, path: Path) -> Iterator[str | None]:
        if is_alone or separator is not None or format_of(path) not in TEXT:  # else one document of many is invalid
            refuse_utf16(file, f'"{path}"')
        return READERS[format_of(path)](file, f'"{path}"', layout)

    return read


def _token_reading(path: Path, config: PrepareConfig) -> _Read:
    spec = config.tokenizer
    if spec is None:
        refuse_without_tokenizer(path)
    assert spec is not None
    if spec.startswith("bpe:"):
        raise UsageError(
            f'"{path}" holds token ids, and "{spec}" is trained on text', "--tokenizer names what made them"
        )
    tokenizer = cache(lambda: make_tokenizer(spec, lambda: (), turn_tokens=config.turn_tokens))
    return lambda file, path: read_tokens(file, f'"{path}"', tokenizer())


def _visible(folder: Path) -> list[Path]:
    """What is in a folder and its sub-folders, in the order of the paths, but for what is hidden."""
    try:
        with reading(f'"{folder}"'):
            return sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix())
    except RecursionError:
        raise DataError(f'the folders in "{folder}" are too deep within each other', "name one in it") from None


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        is_open = path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.X_OK)
        if is_open and not _is_data_folder(path):  # "prepare ." makes one in its own source
            yield from _walk(path)
        else:
            yield path


def _is_data_folder(path: Path) -> bool:
    return (path / MANIFEST).is_file() and any(split_of(file.name) for file in path.iterdir())


def _is_validation(relative: Path) -> bool:
    return any(_VALIDATION.match(part) for part in relative.parts)


def _fingerprint(path: Path, files: list[Path]) -> str:
    """SHA-256 over the files' contents, as they are, and their names in a folder, which decide order and split."""
    total = hashlib.sha256()
    for file in files:
        endings = file.suffixes[-2:] if file.suffix.lower() in COMPRESSIONS else file.suffixes[-1:]
        name = file.relative_to(path).as_posix() if path.is_dir() else "".join(endings)
        with reading(f'"{file}"'), open_regular(file) as stream:
            total.update(f"{name}\n{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode(*_ANY_NAME))
    return f"sha256:{total.hexdigest()}"


def _read_files(files: Mapping[Path, _State], read: _Read) -> Iterator[str | None]:
    """Raises DataError for a file that is not what was hashed, before it is read or after."""
    for path, state in files.items():
        _require_unchanged(path, state)
        with opened(path, seekable=format_of(path) == PARQUET) as file:
            yield from read(file, path)
        _require_unchanged(path, state)


def _state_of(path: Path) -> _State:
    with reading(f'"{path}"'):
        facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _require_unchanged(path: Path, state: _State) -> None:
    if _state_of(path) != state:
        raise DataError(f'"{path}" changed while the source was read', "run the command again when it changes no more")
