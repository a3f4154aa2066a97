"""Decoding one sequence, side by side with transformers: tokens a second, 32 + 128 tokens, in interleaved rounds.

python benchmarks/decoding.py [--shape b18|270m] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from gemmazero.config import ModelConfig
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import keep_freed_memory
from training_step import SHAPES

PROMPT, NEW = 32, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="b18")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    prompt = torch.randint(50_257, (PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    contenders = {
        f"{name} {dtype}": make(options.shape, precision, prompt)
        for dtype, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for name, make in (("gemmazero", ours), ("transformers", transformers))
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, decode in contenders.items():
            started = time.perf_counter()
            decode()
            speeds[name].append(NEW / (time.perf_counter() - started))
    print(f"{options.shape}, median of {options.rounds} interleaved rounds")
    for name, values in speeds.items():
        print(f"{name:20} {statistics.median(values):6.0f} tokens/s  (best {max(values):.0f})")


def ours(shape: str, dtype: torch.dtype, prompt: list[int]) -> Callable[[], object]:
    model = Gemma(ModelConfig.from_json({"model_type": "gemma3_text"} | SHAPES[shape]))
    model.initialize(torch.Generator().manual_seed(0))
    generator = Generator(model.to(dtype))
    greedy = Sampler(temperature=0)
    return lambda: list(generator.stream([prompt], greedy, [row_generator(0, 0)], max_tokens=NEW))


def transformers(shape: str, dtype: torch.dtype, prompt: list[int]) -> Callable[[], object]:
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SHAPES[shape])).to(dtype).eval()
    ids = torch.tensor([prompt])
    return lambda: model.generate(ids, do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW, eos_token_id=None)


if __name__ == "__main__":
    main()
