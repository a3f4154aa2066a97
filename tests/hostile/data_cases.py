"""Data folders that are not what their manifest says."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.case import Case, Spoil, bytes_of, made_by
from hostile.json_cases import NOT_FILES, cut_in_half, set_to, to_values, without

_TOKENS = "train-00000.bin"
_KEYS = (
    "format_version", "source", "subset", "revision", "options", "tokenizer", "tokenizer_digest", "vocab_size",
    "end_id", "dtype", "round_trip", "splits", "dropped_short", "dropped_invalid", "duplicates",
    "validation_in_training", "files",
)  # fmt: skip


def file_called(name: str) -> Spoil:
    """A file more, under a name that leads elsewhere."""
    return set_to("files", name, to={"bytes": 1, "sha256": "0" * 64})


def with_tokens(change: Callable[[bytes], bytes]) -> Spoil:
    """Other token files of the validation split, and a manifest that agrees with them."""

    def spoil(manifest: Path) -> None:
        record = json.loads(manifest.read_bytes())
        file = manifest.with_name("validation-00000.bin")
        data = change(file.read_bytes())
        file.write_bytes(data)
        record["files"][file.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        record["splits"]["validation"]["tokens"] = len(data) // 2
        manifest.write_text(json.dumps(record))

    return spoil


def in_turn(*spoils: Spoil) -> Spoil:
    def spoil(file: Path) -> None:
        for one in spoils:
            one(file)

    return spoil


def renamed_split(record: dict[str, Any]) -> None:
    record["splits"]["test"] = record["splits"].pop("validation")


MANIFESTS: dict[str, Spoil] = {
    **{f"without its {key}": without(key) for key in _KEYS},
    **{f"{key} is a list": set_to(key, to=[1]) for key in _KEYS},
    **{f"{key} is 2^70": set_to(key, to=2**70) for key in ("vocab_size", "end_id", "dropped_short", "round_trip")},
    **{f"{key} is -1": set_to(key, to=-1) for key in ("vocab_size", "end_id", "dropped_short", "round_trip")},
    **{f"{key} is true": set_to(key, to=True) for key in ("vocab_size", "end_id", "dropped_short", "round_trip")},
    **{f"{count} of train is {value!r}": set_to("splits", "train", count, to=value)
       for count in ("documents", "tokens", "text_bytes") for value in (-1, 2**70, 1.5, "7", None, [7])},
    **{f"a file of {str(value)[:20]} bytes": set_to("files", _TOKENS, "bytes", to=value)
       for value in (-2, 2**70, "2", None, 1.5)},
    **{f"a file called {str(name)[:40]!r}": file_called(name) for name in (
        "../model/model.safetensors", "/etc/passwd", "..", ".", "", "a/b.bin", "\0", "x" * 5000)},
    "a split more": to_values(lambda record: record["splits"].update(test=record["splits"]["train"])),
    "a split renamed": to_values(renamed_split),
    "something more": set_to("hostile", to=1),
    "options of another program": set_to("options", to={"hostile": 1}),
    "options of the wrong type": set_to("options", to={"seed": "0"}),
    "a vocabulary of four bytes an id": set_to("vocab_size", to=100_000),
    "a vocabulary of no ids": set_to("vocab_size", to=0),
    "a vocabulary that is too small": set_to("vocab_size", to=50),
    "an end beyond the vocabulary": set_to("end_id", to=257),
    "seventy thousand files": made_by(lambda: set_to("files", to={
        f"train-{number:05d}.bin": {"bytes": 2, "sha256": "0" * 64} for number in range(70_000)})),
    "a digest of a tokenizer that is another's": set_to("tokenizer_digest", to="0" * 64),
    "a source that moves the cursor": set_to("format_version", to="\x1b[2J\x1b]0;owned\x07"),
    "ids beyond the vocabulary": with_tokens(lambda data: b"\xff" * len(data)),
    "one id beyond the vocabulary": with_tokens(lambda data: data[:-2] + b"\x01\x01"),
    "no tokens": with_tokens(lambda data: data[:0]),
    "a single token": with_tokens(lambda data: data[:2]),
    "an odd byte": with_tokens(lambda data: data + b"x"),
}  # fmt: skip


def link_outside(file: Path) -> None:
    """The file itself, but elsewhere."""
    elsewhere = file.parents[1] / file.name
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


def link_by_a_folder(file: Path) -> None:
    """The whole folder's files are links that lead out of it."""
    for path in list(file.parent.iterdir()):
        link_outside(path)


BINARIES: dict[str, Spoil] = {
    **NOT_FILES,
    "nothing": bytes_of(b""),
    "a byte": bytes_of(b"\x00"),
    "cut in half": cut_in_half,
    "a pickle": bytes_of(b"\x80\x04\x95" + b"\x00" * 100),
    "a link that leads out of the folder": link_outside,
    "all files links that lead out of the folder": link_by_a_folder,
}


def data_cases() -> Iterator[Case]:
    for name, spoil in MANIFESTS.items():
        yield Case(name, "data", "manifest.json", "evaluate", spoil)
    for name, spoil in BINARIES.items():
        yield Case(name, "data", "validation-00000.bin", "evaluate", spoil)
        yield Case(name, "data", _TOKENS, "train", spoil)
    for name in ("a vocabulary that is too small", "a vocabulary of four bytes an id", "options of another program",
                 "tokens of train is -1", "a file called '/etc/passwd'", "end_id is -1"):  # fmt: skip
        yield Case(name, "data", "manifest.json", "train", MANIFESTS[name])
        yield Case(name, "data", "manifest.json", "prepare_again", MANIFESTS[name])
    for size in (0, 2, 2**40):
        yield Case(
            f"a file of {size} bytes", "data", "manifest.json", "train", set_to("files", _TOKENS, "bytes", to=size)
        )
    for entry in ("train", "evaluate"):
        yield Case(
            "a vocabulary larger than its tokenizer's",
            "data",
            "manifest.json",
            entry,
            in_turn(set_to("vocab_size", to=60_000), with_tokens(lambda data: b"\x50\xc3" * (len(data) // 2))),
        )
    # What is evaluated are tokens, wherever a document ends.
    for entry, is_harmless in (("train", False), ("evaluate", True)):
        spoil = set_to("end_id", to=3)
        yield Case("another end than its tokenizer's", "data", "manifest.json", entry, spoil, is_harmless)
    for name, spoil in NOT_FILES.items():
        yield Case(name, "data", "tokenizer.json", "train", spoil)
        yield Case(name, "data", "tokenizer_config.json", "prepare_again", spoil)
    yield Case("a link that leads out of the folder", "data", "tokenizer.json", "train", link_outside)
