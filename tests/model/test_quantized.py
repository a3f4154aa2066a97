import math

import pytest
import torch
from gemma_oracle import random_gemma, random_ids, tiny_config
from torch import Tensor

from gemmazero.errors import UsageError
from gemmazero.model.quantized import Int8Linear, quantize, quantize_model

HALF_BFLOAT16_STEP = 2**-9  # rounding to 8 significant bits, of the number


def dequantized(layer: Int8Linear) -> Tensor:
    """float64 (N, K)"""
    return layer.whole.double() * layer.scale.double()[:, None]


def random_matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-6, 3, rows)[:, None]
    return torch.randn(rows, columns, generator=generator) * sizes


@pytest.mark.parametrize(("rows", "columns"), [(97, 48), (33, 257), (1, 1)])
def test_every_weight_is_met_to_within_half_a_step(rows, columns):
    weight = random_matrix(rows, columns)
    layer = quantize(weight)
    step = layer.scale.double()[:, None]
    assert ((dequantized(layer) - weight.double()).abs() <= step / 2 * (1 + 1e-6)).all()


def test_a_step_is_the_largest_weight_of_the_row_by_127_rounded_up_by_no_more_than_a_bfloat16_step():
    weight = random_matrix(64, 48)
    least = weight.double().abs().amax(dim=1) / 127
    ratio = quantize(weight).scale.double() / least
    assert ratio.min() >= 1 - 1e-6
    assert ratio.max() <= 1 + 2**-7


def test_values_are_symmetric_and_use_the_whole_range():
    whole = quantize(random_matrix(64, 48)).whole
    assert whole.dtype == torch.int8
    assert int(whole.min()) >= -127
    assert (whole.abs().amax(dim=1) >= 126).all()


def test_a_row_of_zeros_stays_zero():
    layer = quantize(torch.zeros(8, 32))
    assert torch.equal(layer(torch.ones(1, 32)), torch.zeros(1, 8))


@pytest.mark.parametrize("rows", [(1,), (2, 3), (16,), (17,), (3, 40)], ids=str)
@pytest.mark.parametrize(("width", "height"), [(48, 97), (64, 64), (257, 33)])
def test_product_is_that_of_the_dequantized_matrix_to_within_rounding(rows, width, height):
    layer = quantize(random_matrix(height, width, seed=1))
    x = torch.randn(*rows, width, generator=torch.Generator().manual_seed(2))
    product = layer(x)
    exact = x.double() @ dequantized(layer).T
    largest = x.double().abs() @ dequantized(layer).abs().T
    assert product.dtype == torch.float32
    bound = HALF_BFLOAT16_STEP * (largest + exact.abs()) + largest * width * 2**-23
    assert ((product.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_model_is_that_of_the_dequantized_weights_to_within_rounding(tied):
    config = tiny_config(tie_word_embeddings=tied)
    narrow, exact = quantize_model(random_gemma(config)), random_gemma(config)
    ids = random_ids(config, batch=2, time=20)
    with torch.no_grad():
        for name, layer in narrow.named_modules():
            if isinstance(layer, Int8Linear) and not name.startswith(("lm_head", "model.embed_tokens")):
                exact.get_parameter(f"{name}.weight").copy_(dequantized(layer))
        exact.model.embed_tokens.weight.copy_(dequantized(narrow.model.embed_tokens.rows))
        if not tied:
            exact.lm_head.weight.copy_(dequantized(narrow.lm_head))
        difference = (narrow(ids) - exact(ids)).square().mean().sqrt() / exact(ids).square().mean().sqrt()
    assert difference < 0.02


def test_a_quarter_of_the_memory_is_left_of_the_matrices():
    config = tiny_config(tie_word_embeddings=True, vocab_size=500)
    model = random_gemma(config)
    matrices = sum(weight.nbytes for weight in model.parameters() if weight.dim() == 2)
    quantize_model(model)
    storages = {buffer.data_ptr(): buffer.nbytes for buffer in model.buffers() if buffer.dtype == torch.int8}
    assert sum(storages.values()) == matrices / 4
    assert all(weight.dim() == 1 for weight in model.parameters())


def test_loss_hardly_changes():
    config = tiny_config(tie_word_embeddings=False)
    ids = random_ids(config, batch=4, time=64)
    losses = []
    for model in (random_gemma(config), quantize_model(random_gemma(config))):
        with torch.no_grad():
            losses.append(float(torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())))
    assert math.isclose(*losses, rel_tol=0.01)
    assert losses[0] != losses[1]


def test_a_device_without_quick_products_is_named():
    with pytest.raises(UsageError, match='no quick 8-bit products on "meta"') as caught:
        quantize_model(random_gemma(tiny_config()).to("meta"))
    assert "--dtype bf16" in caught.value.hint
