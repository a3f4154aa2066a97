"""Machine code of a few tokens, held against the model that it is made of."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_gemma import WINDOW, random_gemma
from torch import Tensor

from gemmazero.errors import CompilationError, UsageError
from gemmazero.inference import native_step
from gemmazero.inference.generator import Generator
from gemmazero.inference.native_step import NativeStep
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import Int8Linear, quantize, quantize_model
from gemmazero.native_code import compiler
from gemmazero.runtime import using_threads

IDS = torch.randint(97, (3, 6 * WINDOW), generator=torch.Generator().manual_seed(5))
ONE = IDS[:1]
KINDS = ["gemma3_text", "gemma2"]
CHUNKS = {
    "token by token": (1,) * 30,
    "at once": (30,),
    "longer than the window, then tokens": (8, *(1,) * 22),
    "mixed": (3, 1, 1, 7, 2, 9, 1, 6),
}
pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler here")


@torch.inference_mode()
def read(model: Gemma, ids: Tensor, chunks: Sequence[int], padding: Tensor | None = None) -> Tensor:
    """(B, chunks, V): what comes after the last position of each chunk, all read by machine code."""
    step, cache = NativeStep(model), Cache(model.config, padding)
    return torch.stack([step(part, cache, ids.shape[1]) for part in ids.split(list(chunks), dim=1)], dim=1)


@torch.no_grad()
def expected(model: Gemma, ids: Tensor, chunks: Sequence[int]) -> Tensor:
    """The same of the model, which reads all at once."""
    return model(ids)[:, torch.tensor(chunks).cumsum(0) - 1]


def difference(left: Tensor, right: Tensor) -> float:
    return float((left - right).square().mean().sqrt() / right.square().mean().sqrt())


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("model_type", KINDS)
def test_it_gives_what_the_model_gives_past_four_windows(model_type, tied, chunks):
    model = random_gemma(model_type=model_type, tied=tied)
    assert difference(read(model, ONE, CHUNKS[chunks]), expected(model, ONE, CHUNKS[chunks])) < 1e-6


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("model_type", KINDS)
def test_each_row_of_a_left_padded_batch_is_read_as_if_alone(model_type, chunks):
    model, padding = random_gemma(model_type=model_type), torch.tensor([0, 2, 6])
    together = read(model, IDS, CHUNKS[chunks], padding)
    assert together.isfinite().all()
    ends = torch.tensor(CHUNKS[chunks]).cumsum(0)
    for row, skipped in enumerate(padding.tolist()):
        with torch.no_grad():
            alone = model(IDS[row : row + 1, skipped:])[:, ends[ends > skipped] - 1 - skipped]
        assert difference(together[row : row + 1, ends > skipped], alone) < 1e-6


@pytest.mark.parametrize("model_type", KINDS)
def test_narrow_weights_give_what_they_give_in_wide_arithmetic_more_nearly_than_the_model(model_type):
    narrow, chunks = random_gemma(model_type=model_type).bfloat16(), CHUNKS["mixed"]
    exact = expected(random_gemma(model_type=model_type).bfloat16().float(), ONE, chunks)
    assert difference(read(narrow, ONE, chunks), exact) < 0.7 * difference(expected(narrow, ONE, chunks), exact)


@torch.no_grad()
def with_rounded_weights(model: Gemma) -> Gemma:
    """The float32 model whose matrices are what 8 bits leave of them."""
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "norm" not in name:
            layer = quantize(weight)
            weight.copy_(layer.whole.float() * layer.scale.float()[:, None])
    return model


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("model_type", KINDS)
def test_8_bit_weights_give_what_they_give_in_wide_arithmetic(model_type, chunks):
    model = quantize_model(random_gemma(model_type=model_type))  # width 48: no multiple of what a register holds
    exact = expected(with_rounded_weights(random_gemma(model_type=model_type)), ONE, CHUNKS[chunks])
    assert difference(read(model, ONE, CHUNKS[chunks]), exact) < 2e-4  # 16 bits a vector; bfloat16 would give 1e-2


def test_sums_of_8_bits_do_not_overflow_however_long_the_rows():
    """A thousand products, each as large as any can be and all of one sign."""
    config = dataclasses.replace(random_gemma().config, intermediate_size=1100)
    model = Gemma(config)
    model.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for block in model.model.layers:
            for matrix in (block.mlp.gate_proj, block.mlp.up_proj):
                matrix.weight[:] = matrix.weight[:1]  # so that all that comes out is equal
            block.mlp.down_proj.weight[:] = block.mlp.down_proj.weight[:, :1].abs()
    exact = expected(with_rounded_weights(copy_of(model)), ONE, (30,))
    assert difference(read(quantize_model(model), ONE, (30,)), exact) < 2e-4


def copy_of(model: Gemma) -> Gemma:
    other = Gemma(model.config)
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("model_type", KINDS)
def test_groups_of_keys_scaled_rotations_and_odd_sizes_are_read_right(model_type, groups, chunks):
    config = dataclasses.replace(
        random_gemma(model_type=model_type).config, hidden_size=52, intermediate_size=67, num_attention_heads=4,
        num_key_value_heads=groups, head_dim=18, rope_scaling_factor=8.0,
    )  # fmt: skip
    model = Gemma(config)
    model.initialize(torch.Generator().manual_seed(1))
    assert difference(read(model, ONE, CHUNKS[chunks]), expected(model, ONE, CHUNKS[chunks])) < 1e-6


@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "int8"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_is_not_hidden(narrow, bad):
    model = random_gemma(tied=True)
    with torch.no_grad():
        model.model.norm.weight[3] = bad
    assert not read(quantize_model(model) if narrow else model, ONE, (30,)).isfinite().any()


@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "int8"])
def test_any_number_of_threads_gives_the_same_bits(narrow, monkeypatch):
    monkeypatch.setattr(native_step, "_WEIGHTS_A_THREAD", 1)
    model = quantize_model(random_gemma()) if narrow else random_gemma()
    results = []
    for threads in (1, 2, 3, 7):
        with using_threads(threads):
            results.append(read(model, ONE, CHUNKS["mixed"]))
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_text_is_read_on_by_the_model_and_by_machine_code_in_turn():
    model, cache = random_gemma(), Cache(random_gemma().config)
    step = NativeStep(model)
    with torch.inference_mode():
        first = model(ONE[:, :4], cache)[:, -1]
        second = step(ONE[:, 4:9], cache, 30)
        third = model(ONE[:, 9:20], cache)[:, -1]
        fourth = step(ONE[:, 20:21], cache, 30)
    assert difference(torch.stack([first, second, third, fourth], dim=1), expected(model, ONE, (4, 5, 11, 1))) < 1e-6


def test_the_models_weights_are_read_where_they_are():
    """Nothing is held twice: the code sees the model's own numbers, but for the norms."""
    model = random_gemma(tied=True)
    step = NativeStep(model)
    addresses = {weight.data_ptr() for weight in model.parameters() if weight.dim() == 2}
    assert addresses <= {tensor.data_ptr() for tensor in step._kept}
    assert sum(t.numel() for t in step._kept if t.data_ptr() not in addresses) < 1000


def test_writing_with_it_is_writing_without_it():
    prompts = [IDS[0, :1].tolist(), IDS[1, :9].tolist(), IDS[2, :4].tolist()]
    written = []
    for compile in (True, False):
        generator = Generator(random_gemma(context=40), compile=compile)
        cache = generator.empty_cache()
        rows = list(stream(generator, prompts))
        first = [new for (new,) in stream(generator, [prompts[1]], cache, 9)]
        second = [new for (new,) in stream(generator, [[*prompts[1], *first, 5, 6]], cache)]
        written.append((rows, first, second))
    assert written[0] == written[1]


def stream(generator: Generator, prompts: list[list[int]], cache: Cache | None = None, max_tokens: int = 200):
    random = [row_generator(0, row) for row in range(len(prompts))]
    return generator.stream(prompts, Sampler(temperature=0), random, max_tokens=max_tokens, cache=cache)


def test_a_model_without_a_compiler_writes_the_same_unless_machine_code_was_asked_for(monkeypatch, tmp_path):
    with_it = list(stream(Generator(random_gemma()), [[5, 6]], max_tokens=20))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(stream(Generator(random_gemma()), [[5, 6]], max_tokens=20)) == with_it
    with pytest.raises(CompilationError):
        Generator(random_gemma(), compile=True)


def test_one_generator_writes_in_many_threads_what_it_writes_in_one():
    generator = Generator(random_gemma())
    prompts = [IDS[0, :start].tolist() for start in range(1, 9)]
    alone = [list(stream(generator, [prompt], max_tokens=60)) for prompt in prompts]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda prompt: list(stream(generator, [prompt], max_tokens=60)), prompts))
    finally:
        sys.setswitchinterval(before)
    assert together == alone


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_that_a_program_makes_its_tensors_in_changes_nothing(dtype):
    plain = read(random_gemma(), ONE, CHUNKS["mixed"])
    model = random_gemma()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(read(model, ONE, CHUNKS["mixed"]), plain)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_cache_of_other_rows_of_another_type_or_of_other_heads_is_refused():
    model = random_gemma()
    smaller = Gemma(dataclasses.replace(model.config, head_dim=2))
    smaller.initialize(torch.Generator().manual_seed(1))
    for other, ids in ((model, IDS[:2]), (random_gemma().bfloat16(), ONE), (smaller, ONE)):
        cache = Cache(model.config)
        with torch.inference_mode():
            other(ids[:, :3], cache)
        with pytest.raises(UsageError, match="filled by other rows"):
            NativeStep(model)(ONE[:, 3:4], cache, 30)


def test_8_bits_of_a_narrow_model_read_on_what_the_model_has_read():
    """Its embedding is float32, and so are keys and values, whoever puts them into the cache."""
    model = quantize_model(random_gemma().bfloat16())
    cache = Cache(model.config)
    with torch.inference_mode():
        model(ONE[:, :20], cache)
        after = NativeStep(model)(ONE[:, 20:21], cache, 30)
        assert difference(after, model(ONE[:, :21])[:, -1]) < 0.02


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="root alone can become a user without threads")
def test_where_no_more_threads_are_to_be_had_one_is_enough():
    program = (
        "import os, resource, sys, torch; sys.path[:0] = [sys.argv[1]]\n"
        "from test_native_step import *\n"
        "native_step._WEIGHTS_A_THREAD = 1\n"
        "torch.set_num_threads(4)\n"
        "model = random_gemma()\n"
        "expected, step = read(model, ONE, (30,))[:, 0], NativeStep(model)\n"
        "os.setuid(54321)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "with torch.inference_mode():\n"
        "    assert torch.equal(step(ONE, Cache(model.config), 30), expected)\n"
        "assert step._threads == 1\n"
    )
    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], check=True)


def test_it_reads_float32_bfloat16_and_8_bits_on_a_cpu_alone():
    assert NativeStep.can_read(random_gemma())
    assert NativeStep.can_read(random_gemma().bfloat16())
    assert NativeStep.can_read(quantize_model(random_gemma()))
    assert not NativeStep.can_read(random_gemma().half())
    assert not NativeStep.can_read(random_gemma().to("meta"))
    mixed = random_gemma()
    mixed.model.layers[0].mlp.up_proj.bfloat16()
    assert not NativeStep.can_read(mixed)
    assert isinstance(quantize_model(random_gemma()).lm_head, Int8Linear)
