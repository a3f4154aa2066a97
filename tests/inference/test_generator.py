import pytest
import torch
from tiny_gemma import WINDOW, random_gemma, transformers_twin

from gemmazero.errors import CheckpointError, UsageError
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import quantize_model

GREEDY = Sampler(temperature=0)
PROMPTS = [[5, 17, 3], [60, 2, 9, 44, 31, 8, 8, 70, 12, 1, 90, 33, 7], [11]]

COMPILED_OR_NOT = pytest.mark.parametrize("compile", [None, False], ids=["machine code", "uncompiled"])


def written(
    model: Gemma, prompts, sampler=GREEDY, *, seed=0, max_tokens=30, end_ids=(), first_row=0, compile=None
) -> list[list[int]]:
    generators = [row_generator(seed, first_row + row) for row in range(len(prompts))]
    rows: list[list[int]] = [[] for _ in prompts]
    generator = Generator(model, compile=compile)
    for step in generator.stream(prompts, sampler, generators, max_tokens=max_tokens, end_ids=end_ids):
        for row, new in zip(rows, step, strict=True):
            row += [] if new is None else [new]
    return rows


@torch.no_grad()
def likeliest(model: Gemma, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@COMPILED_OR_NOT
@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_greedy_equals_an_uncached_argmax_loop_past_four_windows(model_type, compile):
    model = random_gemma(model_type=model_type)
    for prompt in PROMPTS:
        ids = written(model, [prompt], max_tokens=6 * WINDOW, compile=compile)[0]
        assert ids == likeliest(model, prompt, 6 * WINDOW)
        assert len(set(ids)) > WINDOW, "a model that repeats itself would prove little"


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
@pytest.mark.parametrize("penalty", [1.0, 1.4])
@COMPILED_OR_NOT
def test_greedy_equals_transformers_generate(model_type, penalty, compile):
    model = random_gemma(model_type=model_type)
    twin = transformers_twin(model)
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        theirs = twin.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6 * WINDOW,
            do_sample=False,
            repetition_penalty=penalty,
            pad_token_id=0,
        )
        sampler = Sampler(temperature=0, repetition_penalty=penalty)
        ours = written(model, [prompt], sampler, max_tokens=6 * WINDOW, compile=compile)
        assert ours == [theirs[0, len(prompt) :].tolist()]


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
@pytest.mark.parametrize("sampler", [GREEDY, Sampler(repetition_penalty=1.2)], ids=["greedy", "sampled"])
@COMPILED_OR_NOT
def test_a_batch_of_unequal_lengths_writes_what_each_row_writes_alone(model_type, sampler, compile):
    model = random_gemma(model_type=model_type)
    alone = [
        written(model, [prompt], sampler, seed=4, first_row=row, compile=compile)[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert written(model, PROMPTS, sampler, seed=4, compile=compile) == alone


def test_equal_seeds_write_the_same_and_others_do_not():
    model = random_gemma()
    first, again, other = (written(model, [[1, 2, 3]] * 2, Sampler(), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert first[0] != first[1], "samples of one prompt differ"


def test_a_row_is_silent_after_its_end_while_others_go_on():
    model = random_gemma()
    free = written(model, PROMPTS)
    end = next(new for new in free[0] if new not in free[1])
    length = free[0].index(end) + 1
    assert written(model, PROMPTS[:2], end_ids={end}) == [free[0][:length], free[1]]


def test_a_row_that_is_done_yields_none():
    model = random_gemma(context=16)
    steps = list(Generator(model).stream([[1] * 14, [2] * 10], GREEDY, [row_generator(0, 0)] * 2, max_tokens=4))
    assert [[new is None for new in step] for step in steps] == [[False, False]] * 2 + [[True, False]] * 2


def test_writing_stops_where_the_context_is_full():
    model = random_gemma(context=16)
    assert [len(row) for row in written(model, [[1] * 16, [2] * 15, [3] * 4])] == [0, 1, 12]


def test_max_tokens_bounds_every_row():
    assert [len(row) for row in written(random_gemma(), PROMPTS, max_tokens=3)] == [3, 3, 3]
    assert written(random_gemma(), PROMPTS, max_tokens=0) == [[], [], []]


def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths():
    with pytest.raises(UsageError, match="18 tokens long, the model's context 16") as caught:
        written(random_gemma(context=16), [[1], [1] * 18])
    assert caught.value.hint == "shorten it by 2 tokens"


def test_a_long_prompt_read_in_chunks_equals_one_read_whole():
    model = random_gemma(context=2048)
    prompts = [
        torch.randint(97, (length,), generator=torch.Generator().manual_seed(2)).tolist() for length in (1300, 90)
    ]
    assert written(model, prompts, max_tokens=2) == [likeliest(model, prompt, 2) for prompt in prompts]


def test_a_cache_that_was_kept_is_read_on_from_where_it_stands():
    model = random_gemma()
    generator, cache, read = Generator(model), Cache(model.config), []
    model.model.embed_tokens.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    first = generator.stream([PROMPTS[1]], GREEDY, [row_generator(0, 0)], max_tokens=30, cache=cache)
    begun = [next(first)[0] for _ in range(8)]
    first.close()
    assert cache.length == sum(read) == len(PROMPTS[1]) + 7
    prompt = [*PROMPTS[1], *begun, 50, 51, 52]
    steps = generator.stream([prompt], GREEDY, [row_generator(0, 0)], max_tokens=12, cache=cache)
    rest = [step[0] for step in steps]
    assert sum(read) == len(prompt) + 11
    assert rest == likeliest(model, prompt, 12)


def test_inference_mode_does_not_reach_the_caller():
    for _ in Generator(random_gemma()).stream([[1]], GREEDY, [row_generator(0, 0)], max_tokens=2):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


@COMPILED_OR_NOT
@pytest.mark.parametrize("more", [0, 2])
def test_a_cache_that_leaves_nothing_of_the_prompt_to_read_is_refused(compile, more):
    generator = Generator(random_gemma(), compile=compile)
    cache = generator.empty_cache()
    list(generator.stream([PROMPTS[1]], GREEDY, [row_generator(0, 0)], max_tokens=1 + more, cache=cache))
    with pytest.raises(UsageError, match=f"cache has read {13 + more} tokens, the prompt has 13"):
        next(generator.stream([PROMPTS[1]], GREEDY, [row_generator(0, 0)], max_tokens=1, cache=cache))
    assert list(generator.stream([PROMPTS[1]], GREEDY, [row_generator(0, 0)], max_tokens=0, cache=cache)) == []


def test_a_prompt_without_a_token_is_refused():
    with pytest.raises(UsageError, match="no token"):
        written(random_gemma(), [[5], []])


@COMPILED_OR_NOT
@pytest.mark.parametrize("sampler", [GREEDY, Sampler()], ids=["greedy", "sampled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_a_model_that_gives_no_numbers_is_refused(dtype, sampler, compile):
    model = random_gemma(width=64)
    with torch.no_grad():  # in fp16 alone the largest overflows
        model.model.layers[0].post_feedforward_layernorm.weight.fill_(4e4 if dtype == torch.float16 else torch.nan)
    model = quantize_model(model) if dtype == torch.int8 else model.to(dtype)
    with pytest.raises(CheckpointError, match="logits are not numbers") as caught:
        written(model, PROMPTS, sampler, compile=compile)
    assert "--dtype" in caught.value.hint


@COMPILED_OR_NOT
def test_what_a_row_reads_on_after_its_end_stops_no_other(compile):
    model = random_gemma()
    free = written(model, PROMPTS[:2])
    end = next(new for new in free[0] if new not in free[1] and new not in PROMPTS[0] + PROMPTS[1])
    with torch.no_grad():
        model.model.embed_tokens.weight[end] = torch.nan
    length = free[0].index(end) + 1
    assert written(model, PROMPTS[:2], end_ids={end}, compile=compile) == [free[0][:length], free[1]]
