"""What a run leaves behind that must be the same however often it was stopped on the way."""

import hashlib
import json
from pathlib import Path
from typing import Any

_TIMED = ("seconds", "tokens_per_second", "memory_bytes", "mfu", "incident")
_LEARNED = ("stepped", "validated", "skipped", "rolled_back", "finished")


def outcome(run: Path) -> dict[str, Any]:
    """The SHA-256 sum of each file of the last and of the best checkpoint, and what was told, without times.

    A manifest is its contents without the run's id, and without the sum that depends on it.
    """
    best = json.loads((run / "best.json").read_text())
    newest = max(path.name for path in (run / "checkpoints").iterdir())
    files = {
        path.relative_to(run).as_posix(): path.read_bytes()
        for name in {newest, best["checkpoint"]}
        for path in (run / "checkpoints" / name).rglob("*")
        if path.is_file()
    }
    manifests = {name: json.loads(files.pop(name)) for name in list(files) if name.endswith("checkpoint.json")}
    for manifest in manifests.values():
        del manifest["run_id"]
        manifest.pop("sha256", None)
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} | manifests | {
        "best.json": best,
        "told": [
            {key: value for key, value in line.items() if key not in _TIMED}
            for line in told
            if line["event"] in _LEARNED
        ],
    }  # fmt: skip


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The names of what is not the same in two outcomes."""
    return [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
