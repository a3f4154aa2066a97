"""A prompt of 8 000 tokens: what is read, what it costs in memory, and what it gives."""

import pytest
import torch

from gemmazero.config import ModelConfig
from gemmazero.inference.generator import Generator
from gemmazero.inference.sampling import Sampler, row_generator
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from largest_tensor import LargestTensor

WINDOW, CHUNK, LAYERS = 64, 512, 3
SIGHT = LAYERS * (WINDOW - 1) + 1  # positions that the last one depends on, through every layer
LONG = 8000


def sliding_gemma(window: int = WINDOW) -> Gemma:
    """Three sliding layers; the weights do not depend on the window."""
    config = ModelConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, layer_types=("sliding_attention",) * LAYERS,
        sliding_window=window, max_position_embeddings=2 * LONG, initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    model = Gemma(config)
    model.initialize(torch.Generator().manual_seed(1))
    return model.eval()


def prompt(length: int) -> list[int]:
    return torch.randint(97, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def read(model: Gemma, ids: list[int], cache: Cache | None = None) -> int:
    steps = Generator(model).stream([ids], Sampler(temperature=0), [row_generator(0, 0)], max_tokens=1, cache=cache)
    (new,) = next(steps)
    assert new is not None
    return new


def test_sliding_layers_make_no_larger_tensor_for_a_longer_prompt():
    model, largest = sliding_gemma(), {}
    for length in (2 * CHUNK, LONG):
        with LargestTensor() as watch:
            read(model, prompt(length))
        largest[length] = watch.numbers
    heads = 2
    assert largest[LONG] == largest[2 * CHUNK] == heads * CHUNK * (CHUNK + WINDOW - 1)  # the scores of a chunk


@torch.inference_mode()
def test_sliding_layers_keep_their_window_and_a_chunk_of_a_long_prompt():
    model = sliding_gemma()
    cache = Cache(model.config)
    read(model, prompt(LONG), cache)
    assert cache.length == LONG
    for layer in cache.layers:
        keys, values = layer.append(torch.zeros(1, 1, 1, 16), torch.zeros(1, 1, 1, 16))
        assert keys.shape == values.shape == (1, 1, WINDOW, 16)
        assert keys.untyped_storage().nbytes() <= 4 * 16 * 2 * (WINDOW + CHUNK)


@pytest.mark.parametrize("length", [LONG, LONG - 1, 15 * CHUNK, 15 * CHUNK + 1])
def test_a_long_prompt_gives_what_the_positions_in_sight_of_its_end_give(length):
    model, ids = sliding_gemma(), prompt(length)
    with torch.no_grad():
        short = model(torch.tensor([ids[-SIGHT:]]))[0, -1]  # turned by relative positions: where they begin is all one
        narrower = sliding_gemma(WINDOW - 1)(torch.tensor([ids[-SIGHT:]]))[0, -1]
        cache = Cache(model.config)
        long = torch.cat([model(part, cache)[0, -1:] for part in torch.tensor([ids]).split(CHUNK, dim=1)])[-1]
    difference = (long - short).abs().max()  # of float32 angles up to 8 000
    assert difference < 1e-4
    assert (narrower - short).abs().max() > 10 * difference, "one key more or less would be seen"
    assert read(model, ids) == int(short.argmax())
