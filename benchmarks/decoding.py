"""Decoding one sequence, side by side with transformers: tokens a second, 32 + 128 tokens, in interleaved rounds.

    python benchmarks/decoding.py [--shape b18|270m] [--device cpu|cuda] [--rounds 5] [--threads 2]
    python benchmarks/decoding.py --model RUN --data DIR [--tokens 2000]

Random weights, greedy. Tokens a second count the reading of the prompt; the steady rate is that of the tokens after
the second, and is compared with that of reading the weights once a token, as fast as a large tensor is read. What a CPU
with a C++ compiler does by itself is called "compiled"; the clock starts when it is. On CUDA 8 sequences are decoded
together, too; on a CPU llama.cpp takes part where llama-cpp-python and gguf are installed. With --model it is told
instead what narrow weights cost: the loss of RUN's validation text in each dtype, read a token at a time.
"""
# ruff: noqa: E402

from gemmazero.runtime import available_cores, keep_freed_memory, wait_politely

wait_politely()  # before torch: threads that spin take the cores from the one that works

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import gemmazero
import llama
from gemmazero.config import ModelConfig
from gemmazero.data.shards import TokenShards
from gemmazero.inference.generator import Generator
from gemmazero.inference.native_step import NativeStep
from gemmazero.inference.pace import Pace, Stopwatch
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import quantize_model
from results import write_results
from training_step import SHAPES

PROMPT, NEW = 32, 128
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}
CONTENDERS = {
    "cpu": tuple(f"{dtype}{how}" for dtype in ("fp32", "bf16", "int8") for how in (" compiled", "")),
    "cuda": ("bf16", "bf16 compiled", "bf16 compiled rows 8"),
}
BYTES = {"fp32": 4, "f32": 4, "bf16": 2, "int8": 1, "q8_0": 34 / 32}  # a weight
Decode = Callable[[], Pace]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="b18")
    parser.add_argument("--device", choices=CONTENDERS, default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, default=2000)
    options = parser.parse_args()
    if (options.model is None) != (options.data is None):
        parser.error("--model and --data go together")
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.model:
        rows = list(losses(options.model, options.data, options.tokens))
        print(f"written to {write_results('decoding_loss', rows, {'tokens': options.tokens})}")
    else:
        rows = list(speeds(options.shape, options.rounds, options.device))
        settings = {"shape": options.shape, "rounds": options.rounds, "threads": options.threads}
        name = f"decoding_{options.shape}" + ("_cuda" if options.device == "cuda" else "")
        print(f"written to {write_results(name, rows, settings)}")
    for row in rows:
        print("  ".join(f"{key.replace('_', ' ')} {value}" for key, value in row.items()))


def speeds(shape: str, rounds: int, device: str) -> Iterator[dict[str, Any]]:
    """Each contender's tokens a second, and their ratio to the best of transformers' medians."""
    contenders = {f"gemmazero {name}": ours(shape, name, device) for name in CONTENDERS[device]}
    for name in ("fp32", "bf16", *(["bf16 static"] if device == "cuda" else [])):
        contenders[f"transformers {name}"] = transformers(shape, name, device)
    if device == "cpu" and find_spec("llama_cpp") and find_spec("gguf"):
        for name in llama.TYPES:
            contenders[f"llama.cpp {name}"] = llama.llama_cpp(
                gemma(shape), name, prompt(0), NEW, torch.get_num_threads()
            )
    for decode in contenders.values():
        decode()
    paces: dict[str, list[Pace]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, decode in contenders.items():
            paces[name].append(decode())
    speeds_of = {name: [rows_of(name) * pace.tokens_per_second for pace in found] for name, found in paces.items()}
    medians = {name: statistics.median(found) for name, found in speeds_of.items()}
    best = max(median for name, median in medians.items() if "transformers" in name)
    weights, bytes_per_second = (
        sum(weight.numel() for weight in gemma(shape).parameters()),
        read_bytes_per_second(device),
    )
    for name, found in paces.items():
        steady = statistics.median(pace.steady_tokens_per_second for pace in found)
        yield {
            "name": name,
            "tokens_per_second_median": round(medians[name], 1),
            "min": round(min(speeds_of[name]), 1),
            "max": round(max(speeds_of[name]), 1),
            "steady": round(rows_of(name) * steady, 1),
            "first_token_seconds": round(statistics.median(pace.first_token_seconds for pace in found), 3),
            "times_transformers_best": round(medians[name] / best, 2) if rows_of(name) == 1 else "",
            "share_of_bandwidth_bound": round(steady * weights * BYTES[name.split()[1]] / bytes_per_second, 2),
        }


def rows_of(name: str) -> int:
    """Sequences that a contender decodes at once."""
    return 8 if "rows 8" in name else 1


def ours(shape: str, how: str, device: str) -> Decode:
    """Decode ``rows_of(how)`` sequences; the pace is that of one."""
    (dtype, *options), rows = how.split(), rows_of(how)
    model = gemma(shape).to(device)
    model = quantize_model(model) if dtype == "int8" else model.to(DTYPES[dtype])
    generator = Generator(model, compile="compiled" in options)
    random = [row_generator(0, row) for row in range(rows)]

    def decode() -> Pace:
        stopwatch = Stopwatch()
        for _ in generator.stream([prompt(row) for row in range(rows)], Sampler(temperature=0), random, max_tokens=NEW):
            stopwatch.count()
        return stopwatch.pace()

    return decode


def gemma(shape: str) -> Gemma:
    model = Gemma(ModelConfig.from_json({"model_type": "gemma3_text"} | SHAPES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    return model


def prompt(row: int) -> list[int]:
    return torch.randint(50_257, (PROMPT,), generator=torch.Generator().manual_seed(row)).tolist()


def read_bytes_per_second(device: str) -> float:
    """How fast a large tensor is read and summed up, at best."""
    large, seconds = torch.ones(2**29 if device == "cuda" else 2**27, device=device), []
    for _ in range(10):
        started = time.perf_counter()
        float(large.sum())
        seconds.append(time.perf_counter() - started)
    return large.nbytes / min(seconds)


def transformers(shape: str, how: str, device: str) -> Decode:
    """Its ``generate`` as it comes; "static" is its cache of fixed size, with which it compiles on CUDA."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
    from transformers.generation.streamers import BaseStreamer

    model = Gemma3ForCausalLM(Gemma3TextConfig(**SHAPES[shape])).to(device, DTYPES[how.split()[0]]).eval()
    ids = torch.tensor([prompt(0)], device=device)

    class Counting(BaseStreamer):  # type: ignore[misc]
        """Is given the prompt first, then each token."""

        def __init__(self) -> None:
            self.stopwatch = Stopwatch()
            self.has_prompt = False

        def put(self, _: Tensor) -> None:
            if self.has_prompt:
                self.stopwatch.count()
            self.has_prompt = True

        def end(self) -> None:
            pass

    def decode() -> Pace:
        counting = Counting()
        model.generate(
            ids,
            do_sample=False,
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            eos_token_id=None,
            streamer=counting,
            cache_implementation="static" if "static" in how else None,
        )
        return counting.stopwatch.pace()

    return decode


def losses(name: str, data: Path, tokens: int) -> Iterator[dict[str, Any]]:
    """Nats a token of the validation split's first ``tokens`` in each dtype, and the change against fp32."""
    ids = torch.from_numpy(TokenShards(data, "validation").read(0, tokens + 1).astype("int64"))
    reference = None
    for dtype in DTYPES:
        loss = decoded_loss(gemmazero.load(name, device="cpu", dtype=dtype).gemma, ids)
        reference = loss if reference is None else reference
        yield {"name": dtype, "loss": round(loss, 5), "change": round(loss - reference, 5)}


@torch.inference_mode()
def decoded_loss(model: Gemma, ids: Tensor) -> float:
    """Each id after those before it in its stretch of a context's length, read one at a time."""
    step, nats, context = NativeStep(model), 0.0, model.config.max_position_embeddings
    for place in range(len(ids) - 1):
        if place % context == 0:
            cache = Cache(model.config)
        logits = step(ids[place].view(1, 1), cache, context)
        nats += float(F.cross_entropy(logits, ids[place + 1 : place + 2]))
    return nats / (len(ids) - 1)


if __name__ == "__main__":
    main()
