import resource
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gemmazero.config import TrainConfig
from gemmazero.model.gemma import Gemma
from gemmazero.training.precision import Precision
from gemmazero.training.throughput import flops_ceiling, free_memory, matmul_flops_per_second, step_flops
from tiny_run import MODEL, SETTINGS

CPU = torch.device("cpu")
TINY = TrainConfig(**SETTINGS)


def test_flops_of_a_step_are_those_of_its_products_where_every_query_sees_every_key() -> None:
    """torch counts the products that were done, attention's with all keys: here those that a mask shows are counted."""
    config = replace(MODEL, layer_types=("full_attention",) * 2)
    model, ids = Gemma(config), torch.zeros(4, 16, dtype=torch.int64)
    with FlopCounterMode(display=False) as counted:
        model(ids).sum().backward()
    heads = config.num_attention_heads * config.head_dim
    hidden_keys = 4 * 2 * 12 * heads * (16 * 16 - 16 * 17 // 2)
    norms = 6 * 4 * 16 * sum(weight.numel() for weight in model.parameters() if weight.dim() == 1)
    assert step_flops(config, TINY) == counted.get_total_flops() + norms - hidden_keys


def test_sliding_layer_counts_the_keys_of_its_window() -> None:
    window, length = MODEL.sliding_window, 16
    seen = sum(min(position + 1, window) for position in range(length))
    causal = sum(position + 1 for position in range(length))
    sliding, full = (replace(MODEL, layer_types=(kind,) * 2) for kind in ("sliding_attention", "full_attention"))
    heads = MODEL.num_attention_heads * MODEL.head_dim
    assert step_flops(full, TINY) - step_flops(sliding, TINY) == 4 * 2 * 12 * heads * (causal - seen)


def test_embedding_that_is_only_looked_up_multiplies_nothing() -> None:
    assert step_flops(replace(MODEL, tie_word_embeddings=False), TINY) == step_flops(MODEL, TINY)


def test_ceiling_is_measured_only_where_a_run_is_worth_it() -> None:
    assert flops_ceiling(MODEL, TINY, CPU) == 0
    assert flops_ceiling(MODEL, replace(TINY, steps=10**8), CPU) > 1e7
    assert matmul_flops_per_second(CPU, Precision("fp32", CPU)) > 1e7


def test_free_memory_is_what_the_limit_of_the_address_space_leaves() -> None:
    free, before = free_memory(CPU), resource.getrlimit(resource.RLIMIT_AS)
    assert free is not None
    assert free > 0
    limit = 2**44 if before[1] == resource.RLIM_INFINITY else before[1]
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        assert free_memory(CPU) == pytest.approx(free, rel=0.5)  # the machine has less than the limit leaves
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
