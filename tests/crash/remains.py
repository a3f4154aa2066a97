"""What a run folder must be whenever its process is dead, judged without the program's own code."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return max((int(path.name.removeprefix("step-")) for path in _checkpoints(run)), default=0)


def damages(run: Path) -> Iterator[str]:
    """All that a kill must never leave behind: each checkpoint and each file is whole, or not there."""
    for checkpoint in _checkpoints(run):
        if damage := damage_of(checkpoint):
            yield damage
    for name in ("run.json", "best.json"):
        try:
            record = json.loads((run / name).read_text())
        except FileNotFoundError:
            continue
        except ValueError as error:
            yield f"{name} is unreadable: {error}"
            continue
        if name == "best.json" and not (run / "checkpoints" / record["checkpoint"]).is_dir():
            yield f"best.json names {record['checkpoint']}, which is not there"
    if torn := [line for line in _metrics(run)[:-1] if _parsed(line) is None]:
        yield f"metrics.jsonl holds {torn[0]!r} before its last line"


def damage_of(checkpoint: Path) -> str:
    """What is wrong with a checkpoint folder; empty where each file is what its manifest says."""
    try:
        groups = json.loads((checkpoint / "checkpoint.json").read_text())["files"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        return f"{checkpoint.name} has no readable manifest: {error}"
    told = {name: entry for group in groups.values() for name, entry in group.items()}
    there = {path.relative_to(checkpoint).as_posix(): path for path in checkpoint.rglob("*") if path.is_file()}
    del there["checkpoint.json"]
    if told.keys() != there.keys():
        return f"{checkpoint.name} holds other files than its manifest: {sorted(told.keys() ^ there.keys())}"
    for name, path in there.items():
        content = path.read_bytes()
        if told[name] != {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}:
            return f"{checkpoint.name}/{name} is not what its manifest says"
    return ""


def leftovers(folder: Path) -> list[str]:
    """Hidden files and folders: nothing of the kind is there when a program has come to its end."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*"))


def step_begun_at(run: Path) -> int | None:
    """The step at which the last process that told of it began, or went on."""
    events = [_parsed(line) or {} for line in _metrics(run)]
    return next((event["step"] for event in reversed(events) if event.get("event") in ("started", "resumed")), None)


def is_finished(run: Path) -> bool:
    """Whether the run has told of its end."""
    return (_parsed((_metrics(run) or [""])[-1]) or {}).get("event") == "finished"


def repeated_steps(run: Path) -> list[int]:
    """Steps that metrics.jsonl tells of twice, or not in order."""
    events = [_parsed(line) or {} for line in _metrics(run)]
    steps = [event["step"] for event in events if event.get("event") == "stepped"]
    return [step for index, step in enumerate(steps) if step != index + 1]


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*"))


def _metrics(run: Path) -> list[str]:
    try:
        return (run / "metrics.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
