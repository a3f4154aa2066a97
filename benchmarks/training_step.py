"""A full optimizer step, side by side with transformers: tokens a second and peak memory, in interleaved rounds.

    python benchmarks/training_step.py [--shape b18|270m] [--rounds 5] [--contenders NAME,NAME]

Each contender runs in a process of its own for a few seconds, in turn, so that a shared machine's drift falls on all.
b18 is the benchmark shape: 50 257 ids, width 256, 6 layers, 4 heads of 64, 1 key-value head, hidden 1024, window 128,
five local to one global; 8 sequences of 256 tokens. "plain" is the same model as one would write it first: eager, full
logits, torch's default AdamW. What is compiled is compiled before the clock starts. bf16 is only for a processor that
multiplies it: elsewhere it is emulated, for everybody.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gemmazero.runtime import wait_politely
from results import write_results

if TYPE_CHECKING:
    import torch

SHAPES = {
    "b18": {
        "vocab_size": 50_257, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64, "query_pre_attn_scalar": 64,
        "sliding_window": 128, "max_position_embeddings": 1024, "pad_token_id": None,
    },
    "270m": {
        "vocab_size": 50_257, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 512, "max_position_embeddings": 1024, "pad_token_id": None,
    },
}  # fmt: skip
BATCHES = {"b18": (8, 256), "270m": (1, 512)}
CONTENDERS = (
    "gemmazero fp32",
    "gemmazero fp32 compiled",
    "gemmazero bf16",
    "gemmazero bf16 compiled",
    "gemmazero bf16 adamw8bit checkpointing",
    "plain fp32",
    "transformers sdpa fp32",
    "transformers sdpa fp32 compiled",
    "transformers sdpa bf16",
    "transformers sdpa bf16 compiled",
)
STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="b18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="names, with commas")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.shape)))
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in options.contenders.split(",")}
    for _ in range(options.rounds):
        for name, rounds in results.items():
            command = [sys.executable, __file__, "--shape", options.shape, "--contender", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            rounds.append(json.loads(output))
    rows = []
    for name, rounds in results.items():
        speeds = [result["tokens_per_second"] for result in rounds]
        memory = max(result["peak_megabytes"] for result in rounds)
        rows.append({
            "name": name,
            "tokens_per_second": round(statistics.median(speeds)),
            "slowest": round(min(speeds)),
            "fastest": round(max(speeds)),
            "peak_megabytes": round(memory),
        })  # fmt: skip
        print(f"{name:42} {statistics.median(speeds):8.0f} tokens/s  "
              f"({min(speeds):.0f} to {max(speeds):.0f})  {memory:6.0f} MB")  # fmt: skip
    size, length = BATCHES[options.shape]
    settings = {"batch": size, "sequence": length, "steps": STEPS, "rounds": options.rounds}
    write_results(f"training_step_{options.shape}", rows, settings)


def measure(contender: str, shape: str) -> dict[str, float]:
    """Tokens a second of the median step, and the process's peak memory."""
    wait_politely()
    kind, *how = contender.split()
    step = {"gemmazero": ours, "plain": plain, "transformers": transformers}[kind](set(how), shape)
    step()
    step()
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    batch, length = BATCHES[shape]
    return {
        "tokens_per_second": batch * length / statistics.median(seconds),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def ours(how: set[str], shape: str) -> Callable[[], object]:
    """The real Trainer, on random tokens."""
    import torch

    from gemmazero.config import ModelConfig, TrainConfig
    from gemmazero.data.batch import Batch
    from gemmazero.model.gemma import Gemma
    from gemmazero.runtime import keep_freed_memory
    from gemmazero.training.trainer import Trainer

    batch, length = BATCHES[shape]

    class RandomBatches:
        def __getitem__(self, index: int) -> Batch:
            tokens = torch.randint(50_257, (batch, length + 1), generator=torch.Generator().manual_seed(index))
            return Batch(ids=tokens[:, :-1].clone(), targets=tokens[:, 1:].clone())

    keep_freed_memory()
    model = Gemma(ModelConfig.from_json({"model_type": "gemma3_text"} | SHAPES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    config = TrainConfig(
        batch_size=batch, micro_batch_size=batch, sequence_length=length,
        precision="bf16" if "bf16" in how else "fp32", optimizer="adamw8bit" if "adamw8bit" in how else "adamw",
        gradient_checkpointing="checkpointing" in how, compile="compiled" in how,
    )  # fmt: skip
    trainer = Trainer(model, RandomBatches(), config, torch.device("cpu"))  # type: ignore[arg-type]
    return lambda: trainer.apply(trainer.attempt())


def plain(_: set[str], shape: str) -> Callable[[], object]:
    """Our model as a first version would train it."""
    import torch

    from gemmazero.config import ModelConfig
    from gemmazero.model.gemma import Gemma

    batch, length = BATCHES[shape]
    model = Gemma(ModelConfig.from_json({"model_type": "gemma3_text"} | SHAPES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    tokens = torch.randint(50_257, (batch, length + 1))
    return stepping(model, lambda: torch.nn.functional.cross_entropy(
        model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
    ))  # fmt: skip


def transformers(how: set[str], shape: str) -> Callable[[], object]:
    """The same model and step as its documentation has one write it: full logits, torch's default AdamW."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    batch, length = BATCHES[shape]
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SHAPES[shape]))
    model.config._attn_implementation = "sdpa"
    tokens = torch.randint(50_257, (batch, length))
    run = torch.compile(model) if "compiled" in how else model

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in how):
            nats: torch.Tensor = run(tokens, labels=tokens).loss
        return nats

    return stepping(model, loss)


def stepping(model: "torch.nn.Module", loss: "Callable[[], torch.Tensor]") -> Callable[[], object]:
    """An optimizer step with all that torch does of itself."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
