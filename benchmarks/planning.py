"""What `train --dry-run` predicts, beside what a run then takes: peak memory, time and disk, in interleaved rounds.

    python benchmarks/planning.py [--rounds 3] [--precision fp32] [--tokenizer gpt2] [--device cuda]

For each case a child process plans, and another one trains the same settings on the sample corpus; in turn, so that a
shared machine's drift falls on both. The time compared is that of the steps and the validations, which is what the plan
tells. Medians go to benchmarks/results/planning.json, where rows of cases that were not run stay.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CASES: dict[str, dict[str, Any]] = {  # small batches: minutes, not days
    "nano": {"steps": 20, "batch_size": 8, "sequence_length": 256},
    "15m": {"steps": 6, "batch_size": 4, "micro_batch_size": 2, "sequence_length": 256},
    "90m": {"steps": 4, "batch_size": 2, "micro_batch_size": 1, "sequence_length": 64},
}
PRECISIONS = ("fp32", "bf16")
MEASURES = ("memory_bytes", "seconds", "disk_bytes")
KEY = ("preset", "precision", "device", "measure")
RESULTS = Path(__file__).parent / "results" / "planning.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", choices=CASES)
    parser.add_argument("--precision", choices=PRECISIONS)
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", choices=("plan", "train"))
    parser.add_argument("--case", type=json.loads)
    options = parser.parse_args()
    if options.child:
        print(json.dumps((planned if options.child == "plan" else trained)(options.case)))
        return
    cases = [
        {"preset": preset, "precision": precision, "device": options.device, **settings}
        for preset, settings in CASES.items()
        for precision in PRECISIONS
        if options.preset in (None, preset) and options.precision in (None, precision)
    ]
    with TemporaryDirectory() as folder:
        rows = measured(cases, Path(folder), options.tokenizer, options.rounds)
    write(rows)
    print(f"{'':12}{'':14}{'predicted':>12}{'measured':>12}{'ratio':>8}")
    for row in rows:
        scale = 1 if row["measure"] == "seconds" else 1e6
        figures = f"{row['predicted'] / scale:12.1f}{row['measured'] / scale:12.1f}{row['ratio']:8.2f}"
        print(f"{row['preset'] + ' ' + row['precision']:12}{row['measure']:14}{figures}")


def measured(cases: list[dict[str, Any]], folder: Path, tokenizer: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each case and measure, medians of ``rounds``."""
    import gemmazero

    data = folder / "sample"
    gemmazero.prepare("sample", data, tokenizer=tokenizer, max_documents=2000)
    found: list[list[list[dict[str, float]]]] = [[] for _ in cases]
    for number in range(rounds):
        for case, pairs in zip(cases, found, strict=True):
            places = {"data": str(data), "out": str(folder / f"{case['preset']}-{case['precision']}-{number}")}
            pairs.append([child(kind, case | places) for kind in ("plan", "train")])
            print(case["preset"], case["precision"], pairs[-1], file=sys.stderr, flush=True)
    rows = []
    for case, pairs in zip(cases, found, strict=True):
        for measure in MEASURES:
            predicted, real = (statistics.median(pair[index][measure] for pair in pairs) for index in (0, 1))
            facts = case | {"measure": measure, "tokenizer": tokenizer, "rounds": rounds}
            rows.append(facts | {"predicted": predicted, "measured": real, "ratio": predicted / real})
    return rows


def write(rows: list[dict[str, Any]]) -> None:
    """Into the results, in place of earlier rows of the same cases."""
    from gemmazero.runtime import environment

    new = {tuple(row[name] for name in KEY) for row in rows}
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kept = [row for row in before if tuple(row[name] for name in KEY) not in new]
    machine = {"processor": environment()["processor"], "system": platform.platform()}
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "gemmazero")}
    record = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions, "rows": [*kept, *rows]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def planned(case: dict[str, Any]) -> dict[str, float]:
    """What the plan says."""
    plan = training(case).plan()
    assert plan.seconds is not None, "it does not fit"
    disk = plan.disk_bytes - (plan.data_bytes or 0)
    return {"memory_bytes": plan.memory.total, "seconds": plan.seconds, "disk_bytes": disk}


def trained(case: dict[str, Any]) -> dict[str, float]:
    """What the run takes."""
    import torch

    from gemmazero.training.events import Stepped, Validated
    from gemmazero.training.throughput import memory_bytes

    events = [event for event in training(case) if isinstance(event, Stepped | Validated)]
    disk = sum(file.stat().st_size for file in Path(case["out"]).glob("checkpoints/*/**/*") if file.is_file())
    return {
        "memory_bytes": memory_bytes(torch.device(case["device"])),
        "seconds": sum(event.seconds for event in events),
        "disk_bytes": disk,
    }


def training(case: dict[str, Any]) -> Any:
    """The run, not yet begun."""
    import gemmazero
    from gemmazero.runtime import wait_politely

    wait_politely()
    half = case["steps"] // 2
    return gemmazero.train(**case, validate_every=half, save_every=half, validation_tokens=512)


def child(kind: str, case: dict[str, Any]) -> dict[str, float]:
    """``planned`` or ``trained``, in a process of its own."""
    command = [sys.executable, __file__, "--child", kind, "--case", json.dumps(case)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


if __name__ == "__main__":
    main()
