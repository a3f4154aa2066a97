"""How fast text becomes a data folder, beside a bare loop of tiktoken's over the same documents.

    python benchmarks/preparing.py [STORIES.jsonl] [--megabytes 250] [--rounds 5] [--workers 1,2]

The text is that of the JSON Lines file again and again, by default of the built-in corpus, each time with another
number woven into each document, so that no two are alike. In each round, in turn: the bare loop, which has its
documents in memory, 64 of them joined at a time, and writes nothing; then the whole command, from its start to its
end, with each number of workers. Medians of megabytes of text a second, by the clock and by the processor: on a machine
that others use too, the second is the steadier. The command's start is in its figures, two seconds of them.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import tiktoken

from gemmazero.data.sample import stories
from gemmazero.data.vocabulary import END_OF_DOCUMENT
from results import write_results

JOINED = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", type=Path, nargs="?", help="a JSON Lines file with its text under text")
    parser.add_argument("--megabytes", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="1,2", help="numbers, with commas")
    options = parser.parse_args()
    workers = [int(number) for number in options.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "distinct.jsonl")
        documents = write_distinct(source, some_stories(options.stories), options.megabytes * 10**6)
        size = sum(len(text.encode()) for text in documents)
        candidates: dict[str, Callable[[], None]] = {"bare loop": lambda: encode(documents)}
        for number in workers:
            candidates[f"prepare --workers {number}"] = lambda number=number: prepare(source, number)  # type: ignore[misc]
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
        for _ in range(options.rounds):
            for name, run in candidates.items():
                speeds[name].append(measured(run, size / 1e6))
    rows = rows_of(speeds)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    settings = {"documents": len(documents), "megabytes": round(size / 1e6), "rounds": options.rounds}
    write_results("preparing", rows, settings)


def rows_of(speeds: dict[str, list[tuple[float, float]]]) -> list[dict[str, object]]:
    """Medians; a CPU second is that of all processes together."""
    bare = [statistics.median(kind) for kind in zip(*speeds["bare loop"], strict=True)]
    rows: list[dict[str, object]] = []
    for name, pairs in speeds.items():
        wall, cpu = (statistics.median(kind) for kind in zip(*pairs, strict=True))
        rows.append({
            "name": name, "MB/s": round(wall, 1), "of bare": round(wall / bare[0], 2),
            "MB a CPU second": round(cpu, 1), "of bare by CPU": round(cpu / bare[1], 2),
        })  # fmt: skip
    return rows


def measured(run: Callable[[], None], megabytes: float) -> tuple[float, float]:
    """Megabytes a second, by the clock and by the processor, of this process and of those it has waited for."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    run()
    return megabytes / (time.perf_counter() - wall), megabytes / (cpu_seconds() - cpu)


def cpu_seconds() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def encode(documents: list[str]) -> None:
    encoding = tiktoken.get_encoding("gpt2")
    for start in range(0, len(documents), JOINED):
        joined = END_OF_DOCUMENT.join(documents[start : start + JOINED])
        encoding.encode_to_numpy(joined, allowed_special={END_OF_DOCUMENT})


def prepare(source: Path, workers: int) -> None:
    out = source.with_name("out")
    command = [sys.executable, "-m", "gemmazero", "prepare", str(source), "--out", str(out), "--tokenizer", "gpt2"]
    subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True)
    shutil.rmtree(out)


def some_stories(file: Path | None) -> list[str]:
    if file is None:
        return list(islice(stories(0), 5000))
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


def distinct(texts: list[str]) -> Iterator[str]:
    """The texts again and again, no two alike: a number stands in each, each time at another place."""
    for number in count():
        words = texts[number % len(texts)].split(" ")
        words.insert(number // len(texts) % len(words), str(number))
        yield " ".join(words)


def write_distinct(file: Path, texts: list[str], size: int) -> list[str]:
    """Write ``size`` bytes of documents or a little more; returns them."""
    documents = []
    with file.open("w", encoding="utf-8") as lines:
        for text in distinct(texts):
            documents.append(text)
            lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size -= len(text.encode())
            if size <= 0:
                return documents
    raise AssertionError


if __name__ == "__main__":
    main()
