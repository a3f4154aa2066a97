"""Good inputs, one of each kind that GemmaZero reads: what the corpus spoils."""

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from safetensors.torch import load_file, save_file

from gemmazero.data.tokenizer import Tokenizer
from gemmazero.storage.model_folder import save_model
from gemmazero.training.settings import Request
from hostile.source_cases import zstd
from tiny_run import MODEL, SETTINGS, make_model, prepare_data, train, write_preset

ONE_STEP = {**SETTINGS, "steps": 1, "warmup_steps": 0, "validation_tokens": 64}
SIX_STEPS = {**SETTINGS, "validate_every": 100, "save_every": 100}  # so that the run has a single checkpoint, of step 4
TALK = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello, cat."},
    ]
}


def make_world(world: Path) -> None:
    """Each part is a folder, and nothing in it refers to a place within another part, but ``run`` to ``data``."""
    torch.set_num_threads(1)
    world.mkdir(parents=True)
    data = prepare_data(world / "data", documents=80)
    _make_texts(world)
    model = make_model(config=MODEL.with_vocabulary(257, 256))
    (world / "model").mkdir()
    save_model(model, Tokenizer.load(data), world / "model")
    _make_sharded(world / "model", world / "sharded")
    (world / "settings").mkdir()
    preset = write_preset(world / "settings" / "tiny.json")
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in ONE_STEP.items())
    (world / "settings" / "run.toml").write_text(settings)
    train(Request(out=world / "run", preset=str(preset), data=str(data), settings=SIX_STEPS), stop_after=4)
    best = {"checkpoint": "step-00000004", "step": 4, "validation_loss": 5.0}
    (world / "run" / "best.json").write_text(json.dumps(best) + "\n")
    for left in (".lock", "loss_plot.png"):
        (world / "run" / left).unlink(missing_ok=True)


def _make_texts(world: Path) -> None:
    lines = (world / "data.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    for part in ("jsonl", "text", "parquet", "talks", "csv", "json", "gzip", "zstd", "packed", "ids"):
        (world / part).mkdir()
    whole = (world / "data.jsonl").read_bytes()
    (world / "gzip" / "stories.jsonl.gz").write_bytes(gzip.compress(whole))
    (world / "zstd" / "stories.jsonl.zst").write_bytes(zstd(whole))
    (world / "packed" / "story.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    (world / "json" / "stories.json").write_text(json.dumps(texts))
    with (world / "csv" / "stories.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    ids = [token for text in texts for token in (*text.encode(), 256)]
    np.array(ids, "<u2").tofile(world / "ids" / "train.bin")
    (world / "data.jsonl").rename(world / "jsonl" / "data.jsonl")
    (world / "text" / "story.txt").write_text("\n".join(texts))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), world / "parquet" / "stories.parquet")
    (world / "talks" / "talk.json").write_text(json.dumps(TALK))


def _make_sharded(model: Path, folder: Path) -> None:
    """The same model with its tensors in two files."""
    shutil.copytree(model, folder)
    (folder / "model.safetensors").unlink()
    tensors = load_file(model / "model.safetensors")
    shard_of = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for shard in set(shard_of.values()):
        save_file({name: tensor for name, tensor in tensors.items() if shard_of[name] == shard}, folder / shard)
    index = {"metadata": {}, "weight_map": shard_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
