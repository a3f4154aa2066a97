from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_gemma import WINDOW, random_gemma
from torch import Tensor

from gemmazero.inference.compiled_token import CompiledToken
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import quantize_model

IDS = torch.randint(97, (3, 6 * WINDOW), generator=torch.Generator().manual_seed(5))
PROMPT = 7
pytestmark = pytest.mark.filterwarnings(  # what torch's compiler does to itself
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:TensorFloat32 tensor cores:UserWarning",
)
KINDS = ["gemma3_text", "gemma2"]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """What would be compiled runs as it is written, which takes no time."""
    with torch.compiler.set_stance("force_eager"):
        yield


@torch.inference_mode()
def read_singly(model: Gemma, ids: Tensor, cache: Cache, token: CompiledToken | None = None) -> Tensor:
    """The logits of every position after the prompt, which the model itself reads."""
    token = token or CompiledToken(model)
    model(ids[:, :PROMPT], cache)
    return torch.stack(
        [token(ids[:, place : place + 1], cache, ids.shape[1]).clone() for place in range(PROMPT, ids.shape[1])], dim=1
    )


def assert_same(left: Tensor, right: Tensor) -> None:
    assert (left - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("model_type", KINDS)
def test_single_tokens_give_what_the_model_gives_past_four_windows(model_type: str) -> None:
    model = random_gemma(model_type=model_type)
    with torch.no_grad():
        plain = model(IDS)[:, PROMPT:]
    assert_same(read_singly(model, IDS, Cache(model.config)), plain)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("model_type", KINDS)
def test_each_row_of_a_left_padded_batch_is_read_as_if_alone(model_type: str) -> None:
    model, padding = random_gemma(model_type=model_type), torch.tensor([0, 2, 6])
    together = read_singly(model, IDS, Cache(model.config, padding))
    for row, skipped in enumerate(padding.tolist()):
        with torch.no_grad():
            alone = model(IDS[row : row + 1, skipped:])[:, PROMPT - skipped :]
        assert_same(together[row : row + 1], alone)


@pytest.mark.usefixtures("uncompiled")
def test_generator_writes_the_same_with_it_for_prompts_of_unequal_lengths_and_one_that_goes_on() -> None:
    prompts = [IDS[0, :1].tolist(), IDS[1, :9].tolist(), IDS[2, :4].tolist()]
    written = []
    for compile in (False, True):
        generator = Generator(random_gemma(context=40), compile=compile)
        cache = generator.empty_cache()
        first = [new for (new,) in stream(generator, [prompts[1]], cache, max_tokens=9)]
        second = [new for (new,) in stream(generator, [[*prompts[1], *first, 5, 6]], cache, max_tokens=200)]
        written.append((list(stream(generator, prompts, max_tokens=200)), first, second))
    assert written[0] == written[1]


def buffers(cache: Cache) -> list[Tensor]:
    """What a graph of kernels reads and writes, by its address."""
    return [buffer for layer in cache.layers for buffer in layer.buffers]


def are_same(left: list[Tensor], right: list[Tensor]) -> list[bool]:
    return [one is other for one, other in zip(left, right, strict=True)]


@pytest.mark.usefixtures("uncompiled")
@torch.inference_mode()
def test_buffers_of_a_text_that_is_gone_are_the_next_ones_and_two_at_once_share_none() -> None:
    model = random_gemma()
    token, plain, end = CompiledToken(model), model(IDS[:1]), IDS.shape[1]

    def begun(length: int = PROMPT) -> Cache:
        cache = Cache(model.config)
        model(IDS[:1, :length], cache)
        return cache

    def read(cache: Cache, begin: int, end: int) -> None:
        for place in range(begin, end):
            assert_same(token(IDS[:1, place : place + 1], cache, IDS.shape[1]), plain[:, place])

    first, second = begun(), begun(PROMPT + 2)
    for step in range(5):  # in turn
        read(first, PROMPT + step, PROMPT + step + 1)
        read(second, PROMPT + step + 2, PROMPT + step + 3)
    before = buffers(first)
    assert not any(one is other for one in before for other in buffers(second))
    model.hidden(IDS[:1, PROMPT + 5 : 4 * WINDOW], first)  # as the next turn of a conversation is read
    read(first, 4 * WINDOW, end)
    assert all(are_same(buffers(first), before))
    before[0].fill_(torch.nan)  # as weights that are no numbers once made it
    del first
    third, fourth = begun(), begun()
    read(third, PROMPT, end)
    read(fourth, PROMPT, end)
    assert all(are_same(buffers(third), before))
    assert not any(are_same(buffers(fourth), before))


@pytest.mark.usefixtures("uncompiled")
@torch.inference_mode()
def test_buffers_that_a_text_has_outgrown_are_the_next_ones_at_once() -> None:
    model = random_gemma(context=600)
    token, growing, other = CompiledToken(model), Cache(model.config), Cache(model.config)
    for cache in (growing, other):
        model(IDS[:1, :PROMPT], cache)
    token(IDS[:1, :1], growing, 200)
    before = buffers(growing)
    token(IDS[:1, :1], growing, 300)
    assert are_same(buffers(growing), before).count(True) == 0
    token(IDS[:1, :1], other, 200)
    assert all(are_same(buffers(other), before))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "int8"])
def test_compiled_it_gives_what_it_gives_as_it_is_written(narrow: bool) -> None:
    model = random_gemma(width=64)
    if narrow:
        quantize_model(model)
    compiled = read_singly(model, IDS, Cache(model.config))
    torch.compiler.reset()
    with torch.compiler.set_stance("force_eager"):
        written = read_singly(model, IDS, Cache(model.config))
    tolerance = 0.03 if narrow else 1e-5  # of that size is bfloat16's rounding of what an 8-bit matrix reads
    assert (compiled - written).abs().max() <= tolerance * written.abs().max()


@pytest.mark.gpu
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("model_type", KINDS)
def test_on_cuda_a_graph_of_kernels_gives_what_the_model_gives(model_type: str) -> None:
    torch._dynamo.utils.counters.clear()
    model, ids = random_gemma(model_type=model_type).cuda(), IDS.cuda()
    with torch.no_grad():
        plain = model(ids)[:, PROMPT:]
    token, held = CompiledToken(model), Cache(model.config)
    singly = read_singly(model, ids, held, token)
    assert (singly - plain).abs().max() <= 1e-4 * plain.abs().max()
    for _ in range(2):  # in other buffers, as ``held`` has the first; then in those again
        torch.testing.assert_close(read_singly(model, ids, Cache(model.config), token), singly)
    assert not torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]


def stream(generator: Generator, prompts: list[list[int]], cache: Cache | None = None, *, max_tokens: int) -> Any:
    random = [row_generator(0, row) for row in range(len(prompts))]
    return generator.stream(prompts, Sampler(temperature=0), random, max_tokens=max_tokens, cache=cache)
