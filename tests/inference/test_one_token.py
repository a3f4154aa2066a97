import dataclasses
from typing import Any

import pytest
import torch
from tiny_gemma import WINDOW, random_gemma
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gemmazero.inference.one_token import OneToken
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma
from gemmazero.model.quantized import quantize_model
from gemmazero.runtime import using_threads

IDS = torch.randint(97, (1, 6 * WINDOW), generator=torch.Generator().manual_seed(5))
PROMPT = 7


@torch.no_grad()
def read_singly(model: Gemma) -> Tensor:
    """The logits of every position after the prompt, which the model itself reads."""
    one_token, cache = OneToken(model), Cache(model.config)
    model(IDS[:, :PROMPT], cache)
    return torch.stack([one_token(IDS[:, place : place + 1], cache) for place in range(PROMPT, IDS.shape[1])], dim=1)


@torch.no_grad()
def read_whole(model: Gemma) -> Tensor:
    return model(IDS)[:, PROMPT:]


def difference(left: Tensor, right: Tensor) -> float:
    return float((left - right).square().mean().sqrt() / right.square().mean().sqrt())


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_single_tokens_give_what_the_model_gives_past_four_windows(model_type, tied):
    model = random_gemma(model_type=model_type, tied=tied)
    plain = read_whole(model)
    assert difference(read_singly(model), plain) < 1e-6


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_narrow_weights_give_what_they_give_in_wide_arithmetic_at_least_as_nearly_as_the_model(model_type):
    narrow = random_gemma(model_type=model_type).bfloat16()
    exact = read_whole(random_gemma(model_type=model_type).bfloat16().float())
    assert difference(read_singly(narrow), exact) <= difference(read_whole(narrow), exact)


@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_8_bit_weights_give_what_the_model_with_them_gives(model_type):
    model = quantize_model(random_gemma(model_type=model_type, width=64))
    assert difference(read_singly(model), read_whole(model)) < 0.01  # of that size is bfloat16's rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
@torch.no_grad()
def test_a_text_whose_first_token_came_alone_is_read_on_like_any_other(dtype):
    model = random_gemma(width=64)
    model = quantize_model(model) if dtype == torch.int8 else model.to(dtype)
    one_token, begun, plain = OneToken(model), Cache(model.config), Cache(model.config)
    one_token(IDS[:, :1], begun)
    model(IDS[:, :1], plain)
    assert difference(model(IDS[:, 1:], begun), model(IDS[:, 1:], plain)) < 0.02
    for ours, its in zip(begun.layers, plain.layers, strict=True):
        assert ours.slot(IDS.shape[1]).keys.dtype == its.slot(IDS.shape[1]).keys.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_weight_is_held_twice_and_the_model_computes_what_it_did(dtype):
    model = random_gemma().to(dtype)
    plain, size = read_whole(model), sum(weight.nbytes for weight in model.parameters())
    kept = OneToken(model)
    assert difference(read_whole(model), plain) < 1e-6
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in model.parameters()}
    assert sum(storages.values()) == size
    assert kept._blocks[0]._gate_and_up._layer.weight.untyped_storage().data_ptr() in storages


class Threads(TorchDispatchMode):
    """How many threads each matrix is multiplied with, by its size."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, set[int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if operation.overloadpacket.__name__ == "mm":
            self.of.setdefault(arguments[1].numel(), set()).add(torch.get_num_threads())
        return operation(*arguments, **(named or {}))


@torch.no_grad()
def test_small_products_wake_no_thread_and_large_ones_get_all():
    config = dataclasses.replace(random_gemma().config, intermediate_size=7000)
    model = Gemma(config)
    model.initialize(torch.Generator().manual_seed(1))
    cache = Cache(config)
    model(IDS[:, :PROMPT], cache)
    with using_threads(3):
        one_token = OneToken(model)
        with Threads() as threads:
            one_token(IDS[:, PROMPT : PROMPT + 1], cache)
        assert torch.get_num_threads() == 3
    gate_and_up, down = 2 * 48 * 7000, 48 * 7000
    assert threads.of[gate_and_up] == {3}
    assert threads.of[down] == {1}
