"""A full optimizer step, side by side with transformers: tokens a second and peak memory, in interleaved rounds.

    python benchmarks/training_step.py [--shape b18|270m] [--rounds 5] [--contenders NAME,NAME]
    python benchmarks/training_step.py --device cuda [--vocabulary 262144]
    python benchmarks/training_step.py --device cuda --memory-cap 16

Each contender runs in a process of its own for a few seconds, in turn, so that a shared machine's drift falls on all.
b18 is the benchmark shape: 50 257 ids, width 256, 6 layers, 4 heads of 64, 1 key-value head, hidden 1024, window 128,
five local to one global; 8 sequences of 256 tokens. "plain" is the same model as one would write it first: eager, full
logits, torch's default AdamW. What is compiled is compiled before the clock starts. A processor that does not multiply
bf16 emulates it, for everybody, and takes minutes: there bf16 is for those alone who name it in --contenders.

On CUDA it is the 270m shape, 8 sequences of 2048 tokens, in bf16; "gemmazero bf16 compiled" is what `train` does there
of itself. mfu is against a large matmul of the same dtype, measured in each process; peak memory is what torch's
allocator gave out. --vocabulary takes another number of ids. --memory-cap lets torch have so many GB, some hundred MB
more than a card of that size leaves it, and tells the largest micro-batch of 1024 tokens that fits. Results are written
after each round, or contender, in place of earlier ones.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gemmazero.runtime import wait_politely
from results import write_results

if TYPE_CHECKING:
    import torch

    from gemmazero.config import ModelConfig, TrainConfig

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
BATCH_ON_CUDA, BATCH_IN_LITTLE_MEMORY = (8, 2048), (64, 1024)
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
CONTENDERS_ON_CUDA = (
    "gemmazero bf16 compiled",
    "gemmazero bf16",
    "plain bf16",
    "transformers sdpa bf16",
    "transformers sdpa bf16 compiled",
    *(["transformers flash bf16 compiled"] if find_spec("flash_attn") else []),
)
CONTENDERS_IN_LITTLE_MEMORY = (
    "gemmazero bf16 compiled",
    "gemmazero bf16 compiled adamw8bit checkpointing",
    "transformers sdpa bf16",
    "transformers sdpa bf16 checkpointing",
)
STEPS, STEPS_ON_CUDA = 4, 20


@dataclass(frozen=True)
class Task:
    """What is trained, where: ``batch`` sequences of ``length`` tokens a step, ``micro_batch`` at a time."""

    shape: dict[str, Any]
    device: str
    batch: int
    length: int
    micro_batch: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="b18; on CUDA 270m")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--vocabulary", type=int, default=50_257, help="ids")
    parser.add_argument("--memory-cap", type=float, help="GB of the GPU's memory, to see what fits")
    parser.add_argument("--rounds", type=int, help="5; on CUDA 2, as some compile for a minute each time")
    parser.add_argument("--contenders", help="names, with commas")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--micro-batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_cap and options.device != "cuda":
        parser.error("--memory-cap is for --device cuda")
    options.rounds = options.rounds or (2 if options.device == "cuda" else 5)
    options.shape = options.shape or ("270m" if options.device == "cuda" else "b18")
    if options.contender:
        print(json.dumps(measure(options.contender, task(options), options.memory_cap)))
    elif options.memory_cap:
        see_what_fits(options)
    else:
        compare(options)


def task(options: argparse.Namespace) -> Task:
    batch, length = BATCH_ON_CUDA if options.device == "cuda" else BATCHES[options.shape]
    if options.memory_cap:
        batch, length = BATCH_IN_LITTLE_MEMORY
    shape = SHAPES[options.shape] | {"vocab_size": options.vocabulary, "max_position_embeddings": max(1024, length)}
    return Task(shape, options.device, batch, length, options.micro_batch or batch)


def usual_contenders(device: str) -> list[str]:
    import torch

    from gemmazero.training.precision import choose_precision

    if device == "cuda":
        return list(CONTENDERS_ON_CUDA)
    return [
        name for name in CONTENDERS if "bf16" not in name or choose_precision("auto", torch.device("cpu")) == "bf16"
    ]


def compare(options: argparse.Namespace) -> None:
    """Every contender in turn, a round after the other."""
    names = options.contenders.split(",") if options.contenders else usual_contenders(options.device)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for done in range(options.rounds):
        for name, rounds in results.items():
            rounds.append(in_a_process(name))
        record(results, done + 1, options)


def record(results: dict[str, list[dict[str, float]]], rounds_done: int, options: argparse.Namespace) -> None:
    """Write what the rounds so far have given: the next one may be cut off."""
    rows: list[dict[str, Any]] = []
    for name, rounds in results.items():
        speeds = [result["tokens_per_second"] for result in rounds if result]
        if not speeds:
            rows.append({"name": name, "tokens_per_second": "does not fit, or failed"})
            print(f"{name:42} does not fit, or failed")
            continue
        memory = max(result["peak_megabytes"] for result in rounds if result)
        rows.append({
            "name": name,
            "tokens_per_second": round(statistics.median(speeds)),
            "slowest": round(min(speeds)),
            "fastest": round(max(speeds)),
            "peak_megabytes": round(memory),
        })  # fmt: skip
        if options.device == "cuda":
            rows[-1]["mfu"] = round(statistics.median(result["mfu"] for result in rounds if result), 3)
        print(f"{name:42} {statistics.median(speeds):8.0f} tokens/s  "
              f"({min(speeds):.0f} to {max(speeds):.0f})  {memory:6.0f} MB")  # fmt: skip
    done = task(options)
    settings = {"batch": done.batch, "sequence": done.length, "steps": STEPS, "rounds": rounds_done}
    name = f"training_step_{options.shape}"
    if options.device == "cuda":
        name, settings = f"{name}_cuda", settings | {"steps": STEPS_ON_CUDA, "vocabulary": options.vocabulary}
    if options.vocabulary != 50_257:
        name = f"{name}_{options.vocabulary}"
    write_results(name, rows, settings)


def see_what_fits(options: argparse.Namespace) -> None:
    """For every contender micro-batches of 64, 32, 16 … sequences, down to the first that fits."""
    done, rows = task(options), []
    names = options.contenders.split(",") if options.contenders else CONTENDERS_IN_LITTLE_MEMORY
    settings = {"memory_cap_gb": options.memory_cap, "sequence": done.length, "vocabulary": options.vocabulary}
    for name in names:
        size, fits = done.batch, False
        while size and not fits:
            result = in_a_process(name, "--micro-batch", str(size))
            fits = "peak_megabytes" in result
            rows.append({
                "name": name,
                "micro_batch": size,
                "fits": "yes" if fits else "no",
                "peak_megabytes": round(result["peak_megabytes"]) if fits else "",
                "tokens_per_second": round(result["tokens_per_second"]) if fits else "",
            })  # fmt: skip
            print(*rows[-1].values(), sep="  ")
            size //= 2
        write_results(f"training_memory_{options.shape}_{options.memory_cap:g}gb", rows, settings)


def in_a_process(contender: str, *more: str) -> dict[str, float]:
    """What ``measure`` says, in a process that was told all that this one was; nothing where that fails."""
    command = [sys.executable, __file__, *sys.argv[1:], "--contender", contender, *more]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = {} if done.returncode else json.loads(done.stdout)
    return result


def measure(contender: str, task: Task, memory_cap: float | None) -> dict[str, float]:
    """Tokens a second, and peak memory: on a CPU of the median step and of the process. Empty where it does not fit."""
    wait_politely()
    import torch

    kind, *how = contender.split()
    is_cuda = task.device == "cuda"
    ceiling = matmul_ceiling(task) if is_cuda else 0.0
    if memory_cap:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory_cap * 1e9 / total))
    try:
        step = {"gemmazero": ours, "plain": plain, "transformers": transformers}[kind](set(how), task)
        step()
        step()
        seconds = seconds_on_cuda(step) if is_cuda else seconds_on_cpu(step)
    except torch.OutOfMemoryError:
        return {}
    speed = task.batch * task.length / seconds
    if not is_cuda:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"tokens_per_second": speed, "peak_megabytes": peak}
    peak = torch.cuda.max_memory_allocated() / 2**20
    flops = step_flops(model_config(task), train_config(task, set(how)))
    return {"tokens_per_second": speed, "peak_megabytes": peak, "mfu": flops / seconds / ceiling}


def seconds_on_cpu(step: Callable[[], object]) -> float:
    """Of the median step."""
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def seconds_on_cuda(step: Callable[[], object]) -> float:
    """Of a step, the mean of many: where nobody waits for the GPU between two of them, one alone has no length."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for _ in range(STEPS_ON_CUDA):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / STEPS_ON_CUDA


def matmul_ceiling(task: Task) -> float:
    """Floating-point operations a second of one large bf16 product; what it took of the memory is given back."""
    import torch

    from gemmazero.training.precision import Precision
    from gemmazero.training.throughput import matmul_flops_per_second

    device = torch.device(task.device)
    ceiling = matmul_flops_per_second(device, Precision("bf16", device))
    torch.cuda.empty_cache()
    return ceiling


def model_config(task: Task) -> "ModelConfig":
    from gemmazero.config import ModelConfig

    return ModelConfig.from_json({"model_type": "gemma3_text"} | task.shape)


def train_config(task: Task, how: set[str]) -> "TrainConfig":
    from gemmazero.config import TrainConfig

    return TrainConfig(
        device=task.device, batch_size=task.batch, micro_batch_size=task.micro_batch, sequence_length=task.length,
        precision="bf16" if "bf16" in how else "fp32", optimizer="adamw8bit" if "adamw8bit" in how else "adamw",
        gradient_checkpointing="checkpointing" in how, compile="compiled" in how,
    )  # fmt: skip


def step_flops(model: "ModelConfig", settings: "TrainConfig") -> int:
    from gemmazero.training import throughput

    return throughput.step_flops(model, settings)


def ours(how: set[str], task: Task) -> Callable[[], object]:
    """The real Trainer, on random tokens that are read ahead."""
    import torch

    from gemmazero.data.feed import Feed
    from gemmazero.model.gemma import Gemma
    from gemmazero.runtime import keep_freed_memory
    from gemmazero.training.probe import RandomBatches
    from gemmazero.training.trainer import Trainer

    keep_freed_memory()
    model, config, device = Gemma(model_config(task)), train_config(task, how), torch.device(task.device)
    model.initialize(torch.Generator().manual_seed(0))
    batches = RandomBatches(task.shape["vocab_size"], config)
    feed = Feed(batches, config.batch_tokens, pinned=task.device == "cuda")
    trainer = Trainer(model.to(device), feed, config, device)
    return lambda: trainer.apply(trainer.attempt())


def plain(how: set[str], task: Task) -> Callable[[], object]:
    """Our model as a first version would train it."""
    import torch

    from gemmazero.model.gemma import Gemma

    model = Gemma(model_config(task))
    model.initialize(torch.Generator().manual_seed(0))
    model.to(task.device)

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(task.device, torch.bfloat16, enabled="bf16" in how):
            logits = model(tokens[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    return stepping(model, loss, task)


def transformers(how: set[str], task: Task) -> Callable[[], object]:
    """The same model and step as its documentation has one write it: full logits, torch's default AdamW."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**task.shape)).to(task.device)
    model.config._attn_implementation = "flash_attention_2" if "flash" in how else "sdpa"
    if "checkpointing" in how:
        model.gradient_checkpointing_enable()
    run = torch.compile(model) if "compiled" in how else model

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        ids = tokens[:, :-1]
        with torch.autocast(task.device, torch.bfloat16, enabled="bf16" in how):
            nats: torch.Tensor = run(ids, labels=ids).loss
        return nats

    return stepping(model, loss, task)


def stepping(
    model: "torch.nn.Module", loss: "Callable[[torch.Tensor], torch.Tensor]", task: Task
) -> Callable[[], object]:
    """An optimizer step with all that torch does of itself, on (B, T + 1) tokens."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(task.shape["vocab_size"], (task.batch, task.length + 1)).to(task.device)

    def step() -> None:
        for some in tokens.split(task.micro_batch):
            (loss(some) * len(some) / len(tokens)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
