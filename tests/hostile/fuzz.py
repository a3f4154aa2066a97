"""Each kind of file, changed at random again and again."""

import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gemmazero.errors import GemmaZeroError
from hostile.entries import ENTRIES, ToldError
from hostile.feeding import CPU_SECONDS, Fed, scratch, watched
from hostile.mutation import changed
from hostile.run_cases import CHECKPOINT, resealed


@dataclass(frozen=True)
class Target:
    """A file of a part of the world, and who reads it; one of a checkpoint may be sealed again afterwards."""

    part: str
    file: str
    entry: str
    is_resealed: bool = False

    @property
    def id(self) -> str:
        return f"{self.entry} {self.part}/{self.file}{' resealed' if self.is_resealed else ''}"


TARGETS = (
    Target("model", "config.json", "load"),
    Target("model", "tokenizer.json", "load"),
    Target("model", "tokenizer_config.json", "load"),
    Target("model", "model.safetensors", "load"),
    Target("sharded", "model.safetensors.index.json", "load_shards"),
    Target("settings", "run.toml", "train_by_settings"),
    Target("settings", "tiny.json", "train_a_preset"),
    Target("data", "manifest.json", "evaluate"),
    Target("data", "validation-00000.bin", "evaluate"),
    Target("data", "tokenizer.json", "train"),
    Target("talks", "talk.json", "chat"),
    Target("jsonl", "data.jsonl", "prepare"),
    Target("text", "story.txt", "prepare"),
    Target("parquet", "stories.parquet", "prepare"),
    Target("csv", "stories.csv", "prepare"),
    Target("json", "stories.json", "prepare"),
    Target("gzip", "stories.jsonl.gz", "prepare"),
    Target("zstd", "stories.jsonl.zst", "prepare"),
    Target("packed", "story.txt.gz", "prepare"),
    Target("ids", "train.bin", "prepare"),
    Target("run", "run.json", "resume"),
    Target("run", "best.json", "load_run"),
    Target("run", "metrics.jsonl", "resume"),
    Target("run", f"{CHECKPOINT}/checkpoint.json", "verify"),
    Target("run", f"{CHECKPOINT}/config.json", "load_run", is_resealed=True),
    Target("run", f"{CHECKPOINT}/training/state.json", "resume", is_resealed=True),
    Target("run", f"{CHECKPOINT}/training/history.jsonl", "resume", is_resealed=True),
    Target("run", f"{CHECKPOINT}/training/optimizer.safetensors", "resume", is_resealed=True),
    Target("run", f"{CHECKPOINT}/training/random.safetensors", "resume", is_resealed=True),
)


def fuzz(target: Target, world: Path, seed: int, count: int) -> Fed:
    """Change the target's file ``count`` times, in a fork of this process, and let its entry read each of them.

    Whatever is not read must be refused by an error of ours; the first that is not ends it.
    """
    with scratch(world.parent) as here:
        read = partial(_feed, target, world, here, seed, count)
        return watched(target.id, read, here / "said", CPU_SECONDS + 2 * count)


def _feed(target: Target, world: Path, here: Path, seed: int, count: int) -> None:
    for number in range(count):
        with scratch(here) as folder:
            shutil.copytree(world / target.part, folder / target.part)
            chance = random.Random(f"{seed} {target.id} {number}")

            def spoil(file: Path, chance: random.Random = chance) -> None:
                file.write_bytes(changed(file.read_bytes(), chance))

            (resealed(spoil) if target.is_resealed else spoil)(folder / target.part / target.file)
            try:
                ENTRIES[target.entry](world, folder)
            except (GemmaZeroError, ToldError):
                pass
            except BaseException:
                print(f"change {number} of seed {seed}")
                raise
