"""docs/benchmarks.md from the results that are there: python benchmarks/tables.py > docs/benchmarks.md."""

import json
from typing import Any

from results import FOLDER

BENCHMARKS = {
    "training_step_b18": ("A training step, 18.6 M parameters", "training_step.py"),
    "training_step_270m": ("A training step, the 270m shape", "training_step.py --shape 270m"),
    "training_step_270m_cuda": ("A training step on CUDA, the 270m shape", "training_step.py --device cuda"),
    "training_step_270m_cuda_262144": (
        "A training step on CUDA, the 270m shape with Gemma's 262,144 tokens",
        "training_step.py --device cuda --vocabulary 262144",
    ),
    "training_memory_270m_16gb": (
        "What fits into 16 GB, the 270m shape at 1,024 tokens",
        "training_step.py --device cuda --memory-cap 16",
    ),
    "shakespeare": ("Tiny Shakespeare by the byte, beside nanoGPT", "shakespeare.py TEXT --nanogpt FOLDER"),
    "optimizers": ("Three optimizers on the same stories", "optimizers.py STORIES"),
    "decoding_b18": ("Decoding one sequence, 18.6 M parameters", "decoding.py"),
    "decoding_270m": ("Decoding one sequence, the 270m shape", "decoding.py --shape 270m"),
    "decoding_270m_cuda": ("Decoding on CUDA, the 270m shape", "decoding.py --shape 270m --device cuda"),
    "decoding_loss": ("What narrow weights cost in decoding, nats a token", "decoding.py --model RUN --data DIR"),
    "planning": ("What `train --dry-run` predicts, and what is measured", "planning.py"),
    "preparing": ("Text to token files, beside a bare loop of tiktoken's", "preparing.py STORIES"),
}
HEAD = """\
# Benchmarks

Written by `python benchmarks/tables.py > docs/benchmarks.md` from `benchmarks/results/`, which the commands below fill.
Each says in its first lines what it measures and how; contenders take turns, so that a shared machine's drift falls on
all: compare the figures of one table with each other, and not with those of another machine."""
LIMITS = """
## What limits them

Profiles of 2026-11-29 (`torch.profiler`), on two cores of an AMD EPYC with AVX2 alone.

* A training step of 18.6 M parameters in fp32, compiled: 84% of the time are matrix products, 228 GFLOP at some 100
  GFLOP/s; products of large matrices reach 110 to 138 here. transformers, whole, comes to 52 GFLOP/s, so that 2 to 2.5
  times its speed is all there can be. A CPU that multiplies bf16 is not bound so. The logits of 256 to 333 rows, as MKL
  makes them without more, come at 40 to 57 GFLOP/s, by oneDNN at 91 to 118 (by hand).
* Memory above 16 bytes a parameter, the process itself (some 0.3 GB) included: 0.46 of transformers' with 18.6 M, 0.8
  at the 270m shape. There 2.4 GB of the heap are in use at most, and it has grown to 2.8: the gradients of the layers,
  many of 5.2 MB, do not fit where activations of 4.2 MB were. To give holes back to the system after each layer cost
  some 5% of the time, and the peak stayed (by hand).
* Decoding one sequence on a CPU: the last column tells how near a contender comes to reading each weight once a token,
  as fast as a large tensor is read here. 270m in fp32 and bf16 takes 54 and 55% of that bound, llama.cpp 60 and 49%:
  two threads of either do not keep memory as busy as a sum over one tensor does. In 8 bits arithmetic counts, too: a
  core multiplied 8 to 9 G weights a second from memory, two of them 15 to 17, and 20 to 37 from the cache (by hand). Of
  a token of 18.6 M parameters, some 0.3 ms are Python's, and some 0.1 ms the start of a thread.
* Threads beside other work: the two threads of a token meet a hundred times in it, so that beside one busy process both
  wait for the one that shares its core. By hand, with 14 M parameters, two threads then gave 27 to 58 tokens/s, one
  thread 59 to 71: there `OMP_NUM_THREADS=1` is the better choice."""


def main() -> None:
    print(HEAD)
    for name, (title, command) in BENCHMARKS.items():
        print(f"\n## {title}\n\n`python benchmarks/{command}`\n")
        file = FOLDER / f"{name}.json"
        missing = "Not measured yet: there was no GPU at hand." if "--device cuda" in command else "Not measured yet."
        print(table(json.loads(file.read_text())) if file.exists() else missing)
        if (FOLDER.parent.parent / "docs" / f"{name}.png").exists():
            print(f"\n![{title}]({name}.png)")
    print(LIMITS)


def table(record: dict[str, Any]) -> str:
    """Where and when, the settings, and the rows."""
    machine, rows = record["machine"], record["rows"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    device = machine["gpu"] or f"{machine['processor']} ({machine['instructions']})"
    settings = ", ".join(f"{key} {value}" for key, value in record["settings"].items())
    columns = list(dict.fromkeys(key for row in rows for key in row))  # one that did not run has few
    lines = [
        f"{record['date']}; {device}, {machine['cores']} cores, load {machine['load']}; {versions}."
        + (f" {settings}." if settings else ""),
        "",
        " | ".join(["", *(key.replace("_", " ") for key in columns), ""]).strip(),
        " | ".join(["", *("---" for _ in columns), ""]).strip(),
        *(" | ".join(["", *(shown(row.get(key, "")) for key in columns), ""]).strip() for row in rows),
    ]
    return "\n".join(lines)


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
