"""Kill `prepare` at random instants, again and again, and compare what it makes with what nobody killed.

    python -m killed_prepare [STORIES.jsonl] --megabytes 2000 --kills 20        (in tests/)

The text is that of the JSON Lines file (by default the built-in corpus) again and again, with a number woven into each
document, so that no two are alike. It is prepared with one worker and with two, in peace; then with a number of workers
drawn at each start, killed by SIGKILL and started again by the same command; where that ends before all kills were met,
it begins anew. All folders must be the same to the byte, and nothing may be left beside them. Peak memory is the sum of
all processes' own and shared parts (PSS), seen ten times a second.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from gemmazero.data.sample import stories

LIMIT_BYTES, LIMIT_BYTES_A_WORKER = 400e6, 150e6


@dataclass(frozen=True)
class Ended:
    """How a `prepare` ended: ``code`` is -9 where it was killed; the most memory that it and its children held."""

    code: int
    seconds: float
    peak_bytes: int
    talk: str


def main() -> int:
    """0 where the folders are the same, nothing is left behind, and memory stayed within its bound."""
    parser = argparse.ArgumentParser(prog="python -m killed_prepare", description=__doc__)
    parser.add_argument("stories", type=Path, nargs="?")
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tokenizer", default="gpt2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where there is room for the text and three times its tokens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        problems = campaign(
            Path(folder), options.stories, options.megabytes * 10**6, options.kills, options.tokenizer, options.seed
        )
    print(*(f"FAILED: {problem}" for problem in problems), sep="\n")
    return 1 if problems else 0


def campaign(
    folder: Path, texts: Path | None, size: int, kills: int, tokenizer: str = "gpt2", seed: int = 0
) -> list[str]:
    """Everything that the head of this file says; what was found wrong."""
    source = write_distinct(folder / "distinct.jsonl", texts, size)
    problems, made, seconds = [], [], 0.0
    for workers in (1, 2):
        ended = prepare(folder, source, f"straight-{workers}", tokenizer, workers)
        assert ended.code == 0, ended.talk
        seconds = ended.seconds
        made.append(sums(folder / f"straight-{workers}"))
        print(
            f"{workers} workers: {ended.seconds:.0f} s, {size / 1e6 / ended.seconds:.1f} MB/s, "
            f"{ended.peak_bytes / 1e6:.0f} MB of memory at most",
            flush=True,
        )
        if ended.peak_bytes > LIMIT_BYTES + LIMIT_BYTES_A_WORKER * workers:
            problems.append(f"{ended.peak_bytes / 1e6:.0f} MB of memory with {workers} workers")
    chance, done, went_on = random.Random(seed), 0, 0
    while True:
        after = chance.uniform(0.5, seconds / 3) if done < kills else None
        ended = prepare(folder, source, "killed", tokenizer, chance.choice((1, 2)), after)
        went_on += "going on after" in ended.talk
        if ended.code == 0:
            made.append(sums(folder / "killed"))
            if done == kills:
                break
            shutil.rmtree(folder / "killed")  # begin another one, until all kills were met
            continue
        assert ended.code == -9, ended.talk
        done += 1
    print(
        f"killed {done} times, {len(made) - 2} times until it was whole; "
        f"{went_on} processes went on with token files that were finished",
        flush=True,
    )
    if any(one != made[0] for one in made):
        problems.append("the folders differ")
    if left := [path.name for path in folder.iterdir() if path.name.startswith(".")]:
        problems.append(f"left behind: {', '.join(left)}")
    return problems


def prepare(
    folder: Path, source: Path, out: str, tokenizer: str, workers: int, kill_after: float | None = None
) -> Ended:
    """`gemmazero prepare` in ``folder``; killed where it has not ended so many seconds after its start."""
    command = [sys.executable, "-m", "gemmazero", "prepare", str(source), "--out", out, "--tokenizer", tokenizer]
    started, peak = time.monotonic(), 0
    talk = folder / "talk.txt"
    with talk.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        while process.poll() is None:
            if kill_after is not None and time.monotonic() > started + kill_after:
                children = children_of(process.pid)
                process.kill()
                process.wait()
                wait_for_the_end_of(children)
                break
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.1)
    return Ended(process.returncode, time.monotonic() - started, peak, talk.read_text())


def children_of(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def memory_of(process: int) -> int:
    """What a process and its children hold; memory that several share is counted once."""
    total = 0
    for one in (process, *children_of(process)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def wait_for_the_end_of(processes: Sequence[int]) -> None:
    """Raises AssertionError for one that outlives the process it worked for."""
    end = time.monotonic() + 30
    while alive := [one for one in processes if is_alive(one)]:
        assert time.monotonic() < end, f"still running: {alive}"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 sum of each file."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def write_distinct(file: Path, texts: Path | None, size: int) -> Path:
    """``size`` bytes of documents, or a little more, no two alike."""
    if texts is None:
        some = list(islice(stories(0), 3000))
    else:
        some = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]
    with file.open("w", encoding="utf-8") as lines:
        for number in count():
            words = some[number % len(some)].split(" ")
            words.insert(number // len(some) % len(words), str(number))
            text = " ".join(words)
            lines.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size -= len(text.encode())
            if size <= 0:
                return file
    raise AssertionError


if __name__ == "__main__":
    print(f"load {os.getloadavg()[0]:.1f}")
    sys.exit(main())
