"""How fast batches come, from a data folder and from a stream, on one core; and what memory a stream takes.

    python benchmarks/batches.py [--megabytes 200] [--batch-size 32] [--sequence-length 512]

The text is the built-in corpus with a number woven into each story, as JSON Lines, in GPT-2's tokens. "read ahead" is
what training takes: nothing is done meanwhile, so the thread has the core to itself. Each figure is of a process of
its own, the memory is its peak. Going on is opening the stream at its last bookmark: the text before it is read again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from itertools import count, cycle, islice
from pathlib import Path

FIGURES = ("a data folder", "a data folder, read ahead", "a stream", "a stream, read ahead", "going on")
BATCHES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--figure", choices=FIGURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.figure:
        measure(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.megabytes * 10**6)
        print(f"{options.megabytes} MB, batches of {options.batch_size} × {options.sequence_length}, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        for figure in FIGURES:
            arguments = [sys.executable, __file__, "--figure", figure, "--folder", folder]
            arguments += [f"--batch-size={options.batch_size}", f"--sequence-length={options.sequence_length}"]
            subprocess.run(arguments, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def write(folder: Path, size: int) -> None:
    """``text.jsonl`` of so many bytes, no two documents alike, and a data folder of its first tenth."""
    from gemmazero.config import PrepareConfig
    from gemmazero.data.prepare import prepare
    from gemmazero.data.sample import stories

    with (folder / "text.jsonl").open("w") as whole, (folder / "tenth.jsonl").open("w") as tenth:
        for number, story in zip(count(), cycle(list(stories(0))), strict=False):
            line = json.dumps({"text": f"{number}. {story}"}) + "\n"
            whole.write(line)
            if whole.tell() < size // 10:
                tenth.write(line)
            if whole.tell() > size:
                break
    prepare(str(folder / "tenth.jsonl"), folder / "data", PrepareConfig(tokenizer="gpt2"))


def measure(options: argparse.Namespace) -> None:
    from gemmazero.config import PrepareConfig
    from gemmazero.data.batches import Batches
    from gemmazero.data.feed import Feed
    from gemmazero.data.shards import TokenShards
    from gemmazero.data.stream import Stream
    from gemmazero.data.stream_source import open_stream
    from gemmazero.data.tokenizer import make_tokenizer

    shape = {"batch_size": options.batch_size, "sequence_length": options.sequence_length, "seed": 0}
    tokens = options.batch_size * options.sequence_length
    text, data = options.folder / "text.jsonl", options.folder / "data"

    def stream() -> Stream:
        source = open_stream(str(text), PrepareConfig())
        return Stream(source.parts, make_tokenizer("gpt2", lambda: (), turn_tokens=False), (), **shape)

    if options.figure == "going on":
        last = bookmark_near_the_end(stream())
        again = stream()
        seconds = timed(lambda: next(again.starting_at(last["batch"], last)))
        print(f"{options.figure:28} {seconds:8.2f} s, past {last['document']:,} documents "
              f"({text.stat().st_size / 1e6 / seconds:.0f} MB/s)")  # fmt: skip
        return
    source = Batches(TokenShards(data, "train"), **shape) if "folder" in options.figure else stream()
    if "ahead" in options.figure:
        feed = Feed(source, tokens)
        feed[0]
        seconds = timed(lambda: deque((feed[number] for number in range(1, BATCHES + 1)), maxlen=1))
    else:
        batches = source.starting_at(0, None)
        next(batches)
        seconds = timed(lambda: deque(islice(batches, BATCHES), maxlen=1))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{options.figure:28} {BATCHES * tokens / seconds / 1e6:8.1f} million tokens/s, {megabytes:.0f} MB")


def bookmark_near_the_end(stream: object) -> dict[str, int]:
    """Of the last batch of the first epoch."""
    last: dict[str, int] = {}
    for passage in stream.starting_at(0, None):  # type: ignore[attr-defined]
        if passage.after["epoch"]:
            return last
        last = dict(passage.after)
    return last


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
