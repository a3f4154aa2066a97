"""open_source(): the documents that a SOURCE names, wherever they are."""

import difflib
from pathlib import Path

from gemmazero.config import PrepareConfig
from gemmazero.data.compression import reading
from gemmazero.data.documents import Documents, Source, Splits
from gemmazero.data.formats import READERS, TOKENS, format_of, stem_of
from gemmazero.data.hub_source import open_hub
from gemmazero.data.local_source import open_local, portable, refuse_without_tokenizer
from gemmazero.data.sample import stories
from gemmazero.data.stdin_source import STDIN, STDIN_NAME, open_stdin
from gemmazero.errors import DataError, GemmaZeroError, UsageError
from gemmazero.hub import HUB_ID

__all__ = ["Documents", "Source", "Splits", "default_tokenizer", "open_source", "without_endings"]

_WHAT_IS_READ = "name a file of text or a folder of them, a Hub dataset id, - for standard input, or sample"


def open_source(source: str, config: PrepareConfig) -> Source:
    """The source that ``source`` names: ``-`` or ``sample``, else a path that exists, else a Hub dataset id.

    Standard input is read to its end. ``config.tokenizer`` matters for files of token ids alone. Raises DataError
    where there is nothing to read, UsageError where nothing or an option of another kind of source is named, HubError
    where the Hub does not answer.
    """
    if source == "":
        raise UsageError("the source must not be empty", _WHAT_IS_READ)
    path = Path(source)
    if source == STDIN:
        _refuse_hub_options(source, config)
        return open_stdin(config)
    if source == "sample":
        _refuse_hub_options(source, config)
        _refuse_separator(source, config)
        return Source("sample", None, lambda: Splits("sample", lambda: stories(config.seed)))
    with reading(f'"{path}"'):
        exists = path.exists()
    if exists:
        _refuse_hub_options(source, config)
        return open_local(path, config)
    if not HUB_ID.fullmatch(source) or format_of(path) in (*READERS, TOKENS):
        raise DataError(f'no such file or folder: "{source}"', _did_you_mean(path) or _WHAT_IS_READ)
    _refuse_separator(source, config)
    try:
        return open_hub(source, config)
    except GemmaZeroError as error:
        hint = "; ".join(filter(None, [_did_you_mean(path), error.hint]))
        raise error.reworded(f'no file or folder "{source}" here, and {error.message}', hint) from error


def default_tokenizer(source: str) -> str:
    """What ``--tokenizer`` is where it is left out. Raises UsageError for files of token ids, which need it."""
    if source == "sample":
        return "bpe:1024"
    path = Path(source)
    with reading(f'"{path}"'):
        refuse_without_tokenizer(path)
    return "gpt2"


def without_endings(name: str) -> str:
    """``name`` without the endings of what is read: ``stories.jsonl.gz`` → ``stories``; ``-`` is ``stdin``."""
    return STDIN_NAME if name == STDIN else stem_of(portable(name))


def _refuse_hub_options(source: str, config: PrepareConfig) -> None:
    asked = {"--subset": config.subset, "--revision": config.revision}
    asked["--split"] = None if config.split == "train" else config.split
    for option, value in asked.items():
        if value is not None:
            raise UsageError(f'{option} "{value}" is for Hub datasets, and "{source}" is none', f"leave {option} out")


def _refuse_separator(source: str, config: PrepareConfig) -> None:
    if config.document_separator is not None:
        raise UsageError(f'--document-separator is for text, and "{source}" has documents', "leave it out")


def _did_you_mean(path: Path) -> str:
    siblings = [file.name for file in path.parent.iterdir() if file.exists()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, [*siblings, "sample"], n=1)
    return f'did you mean "{path.with_name(close[0])}"?' if close else ""
