"""What `train --dry-run` predicts, beside what a run then takes: peak memory, time and disk, in interleaved rounds.

    python benchmarks/planning.py [--rounds 3] [--precision fp32] [--tokenizer gpt2] [--device cuda]

For each case a child process plans, and another one trains the same settings on the sample corpus; in turn, so that a
shared machine's drift falls on both. The time compared is that of the steps and the validations, which is what the plan
tells. Medians go to benchmarks/results/planning.json, where rows of cases that were not run stay.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results import FOLDER, write_results

CASES: dict[str, dict[str, Any]] = {  # small batches: minutes, not days
    "nano": {"steps": 10, "batch_size": 8, "sequence_length": 256, "optimizer": "adamw"},
    "15m": {"steps": 6, "batch_size": 4, "micro_batch_size": 2, "sequence_length": 256},
    "90m": {"steps": 4, "batch_size": 2, "micro_batch_size": 1, "sequence_length": 64},
}
PRECISIONS = ("fp32", "bf16")
MEASURES = {"memory_megabytes": 1e6, "seconds": 1.0, "disk_megabytes": 1e6}
KEY = ("preset", "precision", "device", "measure")
RESULTS = FOLDER / "planning.json"


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
    write(rows, options.tokenizer)
    for row in rows:
        print(*row.values())


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
        facts = {name: case[name] for name in ("preset", "precision", "device", "batch_size", "sequence_length")}
        for measure, scale in MEASURES.items():
            predicted, real = (statistics.median(pair[index][measure] for pair in pairs) / scale for index in (0, 1))
            figures = {
                "predicted": round(predicted, 1),
                "measured": round(real, 1),
                "ratio": round(predicted / real, 2),
            }
            rows.append({**facts, "tokenizer": tokenizer, "rounds": rounds, "measure": measure, **figures})
    return rows


def write(rows: list[dict[str, Any]], tokenizer: str) -> None:
    """Into the results, in place of earlier rows of the same cases."""
    new = {tuple(row[name] for name in KEY) for row in rows}
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kept = [row for row in before if tuple(row[name] for name in KEY) not in new]
    write_results(RESULTS.stem, [*kept, *rows], {"last run with tokenizer": tokenizer})


def planned(case: dict[str, Any]) -> dict[str, float]:
    """What the plan says."""
    plan = training(case).plan()
    assert plan.seconds is not None, "it does not fit"
    disk = plan.disk_bytes - (plan.data_bytes or 0)
    return {"memory_megabytes": plan.memory.total, "seconds": plan.seconds, "disk_megabytes": disk}


def trained(case: dict[str, Any]) -> dict[str, float]:
    """What the run takes."""
    import torch

    from gemmazero.training.events import Finished, Stepped, Validated
    from gemmazero.training.throughput import memory_bytes

    seconds, last = 0.0, time.perf_counter()
    for event in training(case):
        if isinstance(event, Stepped | Validated):
            seconds += event.seconds
        elif isinstance(event, Finished):  # before it the whole validation split was scored
            seconds += time.perf_counter() - last
        last = time.perf_counter()
    disk = sum(file.stat().st_size for file in Path(case["out"]).glob("checkpoints/*/**/*") if file.is_file())
    return {
        "memory_megabytes": memory_bytes(torch.device(case["device"])),
        "seconds": seconds,
        "disk_megabytes": disk,
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
