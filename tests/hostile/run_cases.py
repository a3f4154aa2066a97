"""Runs and their checkpoints, resealed after they were spoilt: every sum is right, and nothing else."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostile.case import Case, Spoil, bytes_of, made_by
from hostile.data_cases import link_outside
from hostile.json_cases import CONTENTS, EDITED, NOT_FILES, set_to, without
from hostile.tensor_cases import HEADERS, TENSORS, with_tensors
from hostile.tokenizer_cases import REFUSED as TOKENIZERS

CHECKPOINT = "checkpoints/step-00000004"
_MANIFEST = f"{CHECKPOINT}/checkpoint.json"


def resealed(spoil: Spoil) -> Spoil:
    """``spoil``, and a manifest of the checkpoint whose sizes and sums are those of what is there now."""

    def both(file: Path) -> None:
        spoil(file)
        folder = next(parent for parent in file.parents if parent.name.startswith("step-"))
        record = json.loads((folder / "checkpoint.json").read_bytes())
        for group in record["files"].values():
            for name in group:
                data = (folder / name).read_bytes()
                group[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        seal(folder / "checkpoint.json", record)

    return both


def seal(manifest: Path, record: dict[str, Any]) -> None:
    """Write a manifest as a checkpoint has it: its own sum at the end."""
    record = {key: value for key, value in record.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    manifest.write_text(json.dumps(record | {"sha256": digest}, indent=1) + "\n")


def manifest_with(*path: Any, to: Any) -> Spoil:
    """Another value in the manifest, which is sealed again."""

    def spoil(manifest: Path) -> None:
        set_to(*path, to=to)(manifest)
        seal(manifest, json.loads(manifest.read_bytes()))

    return spoil


_FACTS = {"size": 1, "sha256": "0" * 64}
MANIFESTS: dict[str, Spoil] = {
    **{f"{key} is {value!r}": manifest_with(key, to=value)
       for key in ("format_version", "step", "run_id", "files")
       for value in (None, -1, 2**70, "4", [], {}, 1.5, True)
       if (key, value) not in [("run_id", "4"), ("format_version", True)]},
    **{f"a file called {str(name)[:40]!r}": manifest_with("files", "model", name, to=_FACTS)
       for name in ("../../run.json", "/etc/passwd", "/dev/zero", "..", ".", "", "\0", "x" * 5000, "a\\b")},
    **{f"a file that is {value!r}": manifest_with("files", "model", "config.json", to=value)
       for value in (None, [], {}, 7, {"size": -1, "sha256": "0" * 64}, {"size": 2**70, "sha256": "0" * 64},
                     {"size": "1", "sha256": 7})},
    "model files that are a list": manifest_with("files", "model", to=[]),
    "a group more": manifest_with("files", "hostile", to={}),
    "fifty thousand files": made_by(
        lambda: manifest_with("files", "training", to={f"f{number}": _FACTS for number in range(50_000)})),
}  # fmt: skip

RUNS: dict[str, Spoil] = {
    **{f"without its {key}": without(key) for key in ("run_id", "preset", "model", "train", "data", "extensions")},
    **{f"{key} is {value!r}": set_to(key, to=value)
       for key in ("format_version", "run_id", "preset", "model", "train", "data", "init", "extensions")
       for value in (-1, [7], {"a": 1}, "\0")},
    **{f"{key} of data is {value!r}": set_to("data", key, to=value)
       for key in ("folder", "manifest_digest", "tokenizer_digest", "source", "revision", "options")
       for value in (-1, [7], "\0")},
    "data in a folder of a name too long": set_to("data", "folder", to="/tmp/" + "x" * 5000),
    "data in a device": set_to("data", "folder", to="/dev/zero"),
    "data in the root": set_to("data", "folder", to="/"),
    "options of another program": set_to("data", "options", to={"hostile": 1}),
    "a model of a million layers": set_to("model", "num_hidden_layers", to=1_000_000),
    "a model of 2^24 ids": set_to("model", "vocab_size", to=2**24),
    "a batch of 2^31": set_to("train", "batch_size", to=2**31),
    "steps of 2^70": set_to("train", "steps", to=2**70),
    "a learning rate of 10^4000": set_to("train", "learning_rate", to=10**4000),
    "a device that is unknown": set_to("train", "device", to="meta"),
    "a setting more": set_to("train", "hostile", to=1),
    "extensions that are no numbers": set_to("extensions", to=[{"step": "1", "steps_before": 2, "steps": 3}]),
    "extensions of another shape": set_to("extensions", to=[{"evil": 1}]),
    "something more": set_to("hostile", to=1),
}  # fmt: skip

_COUNTS = ("step", "batch", "tokens")
STATES: dict[str, Spoil] = {
    **{name: spoil for name, spoil in CONTENTS.items() if name != "a text of five million characters"},
    **EDITED,
    **{f"{key} is {value!r}": set_to(key, to=value) for key in _COUNTS for value in (-1, 2**70, "4", None, [4], 1.5)},
    **{f"without its {key}": without(key) for key in _COUNTS},
}  # fmt: skip

HISTORIES: dict[str, Spoil] = {
    "no JSON": bytes_of(b"{\n"),
    "a list": bytes_of(b"[]\n"),
    "null": bytes_of(b"null\n"),
    "no event": bytes_of(b"{}\n"),
    "an event that is a number": bytes_of(b'{"event": 7, "step": 1}\n'),
    "a step that is a text": bytes_of(b'{"event": "stepped", "step": "1"}\n'),
    "a step without a loss": bytes_of(b'{"event": "stepped", "step": 1}\n'),
    "a way back of nothing": bytes_of(b'{"event": "rolled_back", "step": 1, "skipped": []}\n'),
    "a NaN": bytes_of(b'{"event": "stepped", "step": 1, "loss": NaN}\n'),
    "no UTF-8": bytes_of(b"\xff\xfe\n"),
    "lists within lists": bytes_of(b"[", times=200_000, end=b"\n"),
    "a number of 5000 digits": bytes_of(b'{"event": "stepped", "step": ' + b"9" * 5000 + b"}\n"),
    "a NUL": bytes_of(b"\x00" * 1000),
    "two million empty objects": made_by(
        lambda: bytes_of(b'{"event": "stepped", "step": 1, "a": [' + b"{}," * 2_000_000 + b"{}]}\n")
    ),
}  # fmt: skip

_HARMLESS_STATES = {"a key of a million characters"}


def run_cases() -> Iterator[Case]:
    for name, spoil in MANIFESTS.items():
        yield Case(name, "run", _MANIFEST, "verify", spoil)
    for name, spoil in NOT_FILES.items():
        yield Case(name, "run", f"{CHECKPOINT}/training/state.json", "verify", spoil)
        yield Case(name, "run", _MANIFEST, "resume", spoil)
        yield Case(name, "run", "metrics.jsonl", "resume", spoil, is_harmless=True)
        yield Case(name, "run", "best.json", "resume", spoil, is_harmless=True)
    for name, spoil in RUNS.items():
        yield Case(name, "run", "run.json", "resume", spoil)
    for name, spoil in STATES.items():
        file = f"{CHECKPOINT}/training/state.json"
        yield Case(name, "run", file, "resume", resealed(spoil), is_harmless=name in _HARMLESS_STATES)
    for name, spoil in HISTORIES.items():
        yield Case(name, "run", f"{CHECKPOINT}/training/history.jsonl", "resume", resealed(spoil))
        yield Case(name, "run", "metrics.jsonl", "resume", spoil, is_harmless=True)
        yield Case(name, "run", "metrics.jsonl", "train_again", spoil, is_harmless=True)
    for name, spoil in HEADERS.items():
        if "gigabytes" in name or "terabytes" in name or name == "a shape of nothing":
            continue  # what a sum is taken of must be there; and the last tensor is a count, of no shape
        yield Case(name, "run", f"{CHECKPOINT}/training/optimizer.safetensors", "resume", resealed(spoil))
    for file in ("optimizer", "random"):
        path = f"{CHECKPOINT}/training/{file}.safetensors"
        gone = with_tensors(lambda tensors: tensors.__delitem__(next(iter(tensors))))
        yield Case("no tensor", "run", path, "resume", resealed(with_tensors(dict.clear)))
        yield Case("a tensor missing", "run", path, "resume", resealed(gone))
    for name in ("a tensor missing", "a matrix turned round", "a tensor of truths", "a head of another shape"):
        file = f"{CHECKPOINT}/model.safetensors"
        yield Case(name, "run", file, "load_run", resealed(TENSORS[name]))
        yield Case(name, "run", file, "resume", resealed(TENSORS[name]))
    for name in ("an id of 2^32 - 1", "a normalizer that doubles forty times", "no model"):
        yield Case(name, "run", f"{CHECKPOINT}/tokenizer.json", "load_run", resealed(TOKENIZERS[name]))
    for name, value in {"a path": "../../data", "an absolute path": "/etc", "a number": 7, "nothing": None}.items():
        spoil = set_to("checkpoint", to=value)
        yield Case(f"its checkpoint is {name}", "run", "best.json", "load_run", spoil, is_harmless=True)
    yield Case("a link that leads out of the run", "run", f"{CHECKPOINT}/model.safetensors", "load_run", link_outside)
