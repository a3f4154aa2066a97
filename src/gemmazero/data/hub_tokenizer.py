"""A tokenizer on the Hub: ``user/name`` or ``user/name@revision``, pinned to a commit."""

from contextlib import suppress
from pathlib import Path

from gemmazero.data.tokenizer_file import LARGEST_FILE
from gemmazero.errors import DataError, HubError
from gemmazero.hub import HUB_ID, download_files, resolve_model

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def is_on_hub(spec: str) -> bool:
    """Whether a tokenizer's name can only be meant for the Hub: it looks like an id, and is no path that exists."""
    name = spec.partition("@")[0]
    return bool(HUB_ID.fullmatch(name)) and not name.endswith(".json") and not is_here(spec)


def is_here(spec: str) -> bool:
    """Whether there is a file or folder of that name, which may be too long for one."""
    with suppress(OSError):
        return Path(spec).exists()
    return False


def pinned_tokenizer(spec: str) -> str:
    """``spec``; one on the Hub with the commit that its revision, by default ``main``, stands at now.

    Raises HubError where the Hub does not say.
    """
    if not is_on_hub(spec):
        return spec
    name, _, revision = spec.partition("@")
    try:
        return f"{name}@{resolve_model(name, revision or None)}"
    except HubError as error:
        raise error.reworded(f'no file or folder "{spec}" here, and {error.message}', error.hint) from error


def portable_name(spec: str) -> str:
    """What names a tokenizer on any machine: of a path the last part, else ``spec`` itself."""
    return spec if is_on_hub(spec) else absolute_path(spec).name


def absolute_path(spec: str) -> Path:
    """Of a tokenizer's file or folder on this machine; a ``tokenizer.json`` is its folder's."""
    path = Path(spec).absolute()
    return path.parent if path.name == "tokenizer.json" else path


def is_from_file(name: str) -> bool:
    """Whether ``name``, which a run or a data folder has of its tokenizer, is that of a file or a folder."""
    return bool(name) and name not in ("gpt2", "bytes") and not name.startswith("bpe:") and "/" not in name


def downloaded_tokenizer(spec: str) -> Path:
    """The folder of the Hub's cache with the tokenizer's files, as they are there. Raises DataError or HubError."""
    name, _, revision = pinned_tokenizer(spec).partition("@")
    files = {path.name: path for path in download_files(name, revision, _FILES, limit_bytes=LARGEST_FILE)}
    if _FILES[0] not in files:
        raise DataError(f'"{name}" on the Hub has no {_FILES[0]}', "--tokenizer names another")
    return files[_FILES[0]].parent
