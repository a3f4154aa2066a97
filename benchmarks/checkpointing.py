"""What it costs that a checkpoint cannot lie: hashing and verification, in a run that saves every 100 steps.

    python benchmarks/checkpointing.py [--precision auto|bf16|fp32] [--rounds 7] [--folder .]

The shape is b18 of training_step.py, 18.6 million parameters with AdamW's state: 223 MB a checkpoint. Each round times
some training steps, a save as it is, and a save without the checks, where every SHA-256 sum is a constant and no file
is read for it: in turn, so that a shared machine's drift falls on all. In the saves as they are, the time inside of the
checks is also taken directly. Medians; the percentages are of 100 steps, scaled up from those that were timed.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from unittest import mock

import torch

from gemmazero.config import ModelConfig, PrecisionName, TrainConfig
from gemmazero.data.batch import Batch
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.folder import discard
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import keep_freed_memory
from gemmazero.storage.checkpoint import Checkpoint, TrainingState, save_checkpoint
from gemmazero.storage.model_folder import save_model
from gemmazero.training.precision import choose_precision
from gemmazero.training.trainer import Trainer
from training_step import BATCHES, SHAPES

STEPS_A_ROUND, STEPS_A_SAVE = 4, 100


class RandomBatches:
    def __getitem__(self, index: int) -> Batch:
        size, length = BATCHES["b18"]
        tokens = torch.randint(50_257, (size, length + 1), generator=torch.Generator().manual_seed(index))
        return Batch(ids=tokens[:, :-1].clone(), targets=tokens[:, 1:].clone())

    def bookmark(self, index: int) -> None:
        """A number is all that it takes to find a batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk where the checkpoints would go")
    options = parser.parse_args()
    keep_freed_memory()
    trainer = make_trainer(choose_precision(options.precision, torch.device("cpu")))
    for _ in range(2):
        step(trainer)
    seconds: dict[str, list[float]] = {"step": [], "save": [], "checks": [], "unchecked": [], "verify": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        save(trainer, Path(folder), hashlib.file_digest)
        for number in range(options.rounds):
            for _ in range(STEPS_A_ROUND):
                started = time.perf_counter()
                step(trainer)
                seconds["step"].append(time.perf_counter() - started)
            for is_checked in (True, False) if number % 2 else (False, True):
                measured = save(trainer, Path(folder), hashlib.file_digest if is_checked else constant)
                seconds["save" if is_checked else "unchecked"].append(measured["save"])
                if is_checked:
                    seconds["checks"].append(measured["checks"])
                    seconds["verify"].append(measured["verify"])
    show(
        seconds, f"b18 {trainer.config.precision}, {measured['megabytes']:.0f} MB a checkpoint, {options.rounds} rounds"
    )


def show(seconds: dict[str, list[float]], title: str) -> None:
    print(f"{title}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    run = STEPS_A_SAVE * statistics.median(seconds["step"])
    print(f"{'100 steps':36} {run:8.2f} s           (scaled from {len(seconds['step'])} steps)")
    for name, values in {
        "a save": seconds["save"],
        "a save without checks": seconds["unchecked"],
        "checks, by the difference": [a - b for a, b in zip(seconds["save"], seconds["unchecked"], strict=True)],
        "checks, timed directly": seconds["checks"],
        "verifying at a resume": seconds["verify"],
    }.items():
        middle = statistics.median(values)
        print(f"{name:36} {middle:8.2f} s {middle / run:8.2%}  ({min(values):.2f} to {max(values):.2f} s)")


def make_trainer(precision: PrecisionName) -> Trainer:
    """The real Trainer, on random tokens."""
    size, length = BATCHES["b18"]
    model = Gemma(ModelConfig.from_json({"model_type": "gemma3_text"} | SHAPES["b18"]))
    model.initialize(torch.Generator().manual_seed(0))
    config = TrainConfig(batch_size=size, micro_batch_size=size, sequence_length=length, precision=precision)
    return Trainer(model, RandomBatches(), config, torch.device("cpu"))  # type: ignore[arg-type]


def step(trainer: Trainer) -> None:
    trainer.apply(trainer.attempt())


def save(trainer: Trainer, folder: Path, file_digest: Callable[[BinaryIO, str], Any]) -> dict[str, float]:
    """Save as a run does, with ``file_digest`` in hashlib's place; seconds of all, of the checks, of a verification."""
    checks = []

    def timed_digest(file: BinaryIO, algorithm: str) -> Any:
        started = time.perf_counter()
        digest = file_digest(file, algorithm)
        checks.append(time.perf_counter() - started)
        return digest

    tokenizer = make_tokenizer("bytes", lambda: (), turn_tokens=False)
    with mock.patch("hashlib.file_digest", timed_digest):
        started = time.perf_counter()
        checkpoint = save_checkpoint(
            folder,
            step=trainer.step,
            run_id="benchmark",
            write_model=partial(save_model, trainer.model, tokenizer),
            state=TrainingState(**trainer.state_dict(), history=""),
        )
        spent = {"save": time.perf_counter() - started, "checks": sum(checks), "megabytes": checkpoint.bytes / 1e6}
        started = time.perf_counter()
        Checkpoint.open(checkpoint.folder).verify()
        spent["verify"] = time.perf_counter() - started
    discard(checkpoint.folder)
    return spent


def constant(_file: BinaryIO, _algorithm: str) -> Any:
    """No check: the same sum for every file, none of which is read."""
    return SimpleNamespace(hexdigest=lambda: "0" * 64)


if __name__ == "__main__":
    main()
