"""Whether a JSON object can be the manifest of a data folder: every key is there, and of its type."""

from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.tokenizer_file import MOST_IDS
from gemmazero.errors import UsageError

_TEXTS = ("source", "tokenizer", "tokenizer_digest")
_TEXTS_OR_NONE = ("subset", "revision")
_COUNTS = ("dropped_short", "dropped_invalid", "duplicates", "validation_in_training")
_OTHERS = ("format_version", "options", "vocab_size", "end_id", "dtype", "round_trip", "splits", "files")


def is_manifest(record: dict[str, Any]) -> bool:
    """Whether all of ``record`` is as a manifest has it; the files themselves are not looked at."""
    if set(record) != {*_TEXTS, *_TEXTS_OR_NONE, *_COUNTS, *_OTHERS}:
        return False
    return (
        all(isinstance(record[key], str) for key in _TEXTS)
        and all(isinstance(record[key], str | None) for key in _TEXTS_OR_NONE)
        and all(_is_count(record[key]) for key in _COUNTS)
        and _is_count(record["vocab_size"], below=MOST_IDS + 1)
        and _is_count(record["end_id"], below=record["vocab_size"])
        and type(record["round_trip"]) in (int, float)
        and 0 <= record["round_trip"] <= 1
        and _are_options(record["options"])
        and _are_splits(record["splits"])
        and _are_files(record["files"])
    )


def _is_count(value: Any, below: int = 2**63) -> bool:
    return type(value) is int and 0 <= value < below


def _are_options(options: Any) -> bool:
    """Whether these are settings of ``prepare``, as a run needs them to prepare its data again."""
    try:
        PrepareConfig(**options)
    except (TypeError, UsageError):
        return False
    return True


def _are_splits(splits: Any) -> bool:
    """Whether each split has its counts, and a token at least for every document."""
    if not isinstance(splits, dict) or set(splits) != {"train", "validation"}:
        return False
    keys = {"documents", "tokens", "text_bytes"}
    return all(
        isinstance(facts, dict)
        and set(facts) == keys
        and all(map(_is_count, facts.values()))
        and facts["documents"] <= facts["tokens"]
        for facts in splits.values()
    )


def _are_files(files: Any) -> bool:
    return isinstance(files, dict) and all(_is_name(name) and _are_file_facts(facts) for name, facts in files.items())


def _is_name(name: str) -> bool:
    """Whether this can only be a file of the folder itself."""
    return Path(name).name == name and name not in ("", ".", "..") and "\0" not in name and len(name) < 256


def _are_file_facts(facts: Any) -> bool:
    return (
        isinstance(facts, dict)
        and set(facts) == {"bytes", "sha256"}
        and _is_count(facts["bytes"])
        and isinstance(facts["sha256"], str)
    )
