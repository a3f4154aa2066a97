"""Tiny Shakespeare by the byte, beside nanoGPT: the same tokens, no more parameters; loss and wall time.

    python benchmarks/shakespeare.py shakespeare.txt [--nanogpt FOLDER] [--seeds 3]

nanoGPT's recipe for a CPU is 2 000 steps of 12 sequences of 64 characters and 0.80 million parameters; its README gives
a validation loss of 1.88. Ours are the same steps of the same size on ``bytes``, which are the characters of this text.
The first 90 % of the text are for training. Our loss is that of all of the rest, nanoGPT's what its own 200 batches
estimate. FOLDER is a clone of its repository; it runs in a copy. The runs alternate; the time is a whole process's.

The recipe is for less time than nanoGPT's, not for the least loss: three layers and --optimizer muon end lower.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import write_results

STEPS, BATCH, CONTEXT, NANOGPT_PARAMETERS = 2000, 12, 64, 804_096
MODEL = {
    "model_type": "gemma3_text", "vocab_size": 257, "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "query_pre_attn_scalar": 32, "layer_types": ["full_attention"] * 2, "sliding_window": CONTEXT,
    "max_position_embeddings": CONTEXT, "rope_theta": 10_000.0,
    "pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 256,
}  # fmt: skip
RECIPE = {
    "learning_rate": 5e-3, "warmup_steps": 100, "precision": "fp32", "sequence_length": CONTEXT,
    "batch_size": BATCH, "micro_batch_size": BATCH, "steps": STEPS, "save_every": STEPS, "validate_every": STEPS,
    "validation_tokens": 0,
}  # fmt: skip
NANOGPT = (
    "--device=cpu --compile=False --eval_interval=2000 --eval_iters=200 --log_interval=100 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--nanogpt", type=Path, help="a clone of nanoGPT's repository")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {"gemmazero": []} | ({"nanoGPT": []} if options.nanogpt else {})
    with tempfile.TemporaryDirectory() as folder:
        make_data(options.text.read_text(encoding="utf-8"), Path(folder))
        for seed in range(options.seeds):
            runs["gemmazero"].append(ours(Path(folder), seed))
            if options.nanogpt:
                runs["nanoGPT"].append(nanogpt(options.nanogpt, options.text, Path(folder, "nanogpt"), seed))
    rows = [
        {
            "name": name,
            "parameters": parameters() if name == "gemmazero" else NANOGPT_PARAMETERS,
            "validation_loss": round(statistics.mean(loss for loss, _ in seeds), 4),
            "losses": [round(loss, 4) for loss, _ in seeds],
            "seconds": round(statistics.median(seconds for _, seconds in seeds), 1),
        }
        for name, seeds in runs.items()
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    write_results("shakespeare", rows, settings={"steps": STEPS, "batch": BATCH, "context": CONTEXT})


def make_data(text: str, folder: Path) -> None:
    cut = int(len(text) * 0.9)
    (folder / "text").mkdir()
    (folder / "text" / "train.txt").write_text(text[:cut], encoding="utf-8")
    (folder / "text" / "validation.txt").write_text(text[cut:], encoding="utf-8")
    (folder / "model.json").write_text(json.dumps(MODEL))
    gemmazero("prepare", folder / "text", "--tokenizer", "bytes", "--out", folder / "data")


def ours(folder: Path, seed: int) -> tuple[float, float]:
    """The loss of the whole validation text, and the seconds that the command took."""
    options = [text for name, value in RECIPE.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    started = time.perf_counter()
    told = gemmazero(
        "train", "--preset", folder / "model.json", "--data", folder / "data", "--out", folder / f"run{seed}",
        "--seed", str(seed), "--json", *options,
    )  # fmt: skip
    return json.loads(told)["validation_loss"], time.perf_counter() - started


def nanogpt(repository: Path, text: Path, folder: Path, seed: int) -> tuple[float, float]:
    if not folder.exists():
        shutil.copytree(repository, folder)
        data = folder / "data" / "shakespeare_char"
        shutil.copy(text, data / "input.txt")
        subprocess.run([sys.executable, data / "prepare.py"], check=True, capture_output=True)
    train = (folder / "train.py").read_text().replace("torch.manual_seed(1337", f"torch.manual_seed({1337 + seed}")
    (folder / "train_seeded.py").write_text(train)
    command = [sys.executable, "train_seeded.py", "config/train_shakespeare_char.py", *NANOGPT.split()]
    started = time.perf_counter()
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder).stdout
    return float(re.findall(r"step 2000: train loss [\d.]+, val loss ([\d.]+)", told)[0]), time.perf_counter() - started


def gemmazero(*arguments: object) -> str:
    command = [sys.executable, "-m", "gemmazero", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def parameters() -> int:
    from gemmazero.config import ModelConfig

    return ModelConfig.from_json(MODEL).parameters


if __name__ == "__main__":
    main()
