"""Documents packed in a row against each of them alone: attention inside of documents, positions from 0 in each."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gemmazero.config import ModelConfig
from gemmazero.data.batch import document_numbers
from gemmazero.model.gemma import Gemma
from gemmazero.model.sight import positions_within, visible
from gemmazero.training.compiling import through_compiled_block
from gemmazero.training.loss import next_token_loss
from tiny_run import MODEL, VOCABULARY, make_model

END = VOCABULARY - 1
CUTS = [[0, 9, 10, 17, 40], [0, 1, 2, 23, 40], [0, 40, 40, 40, 40]]  # where the documents of each row begin and end
GEMMA2 = replace(MODEL, model_type="gemma2", attn_logit_softcapping=20.0, query_pre_attn_scalar=12)
SCALED = replace(MODEL, rope_scaling_factor=4.0, layer_types=("full_attention", "sliding_attention"))
CONFIGS = [pytest.param(config, id=name) for name, config in
           {"gemma3": MODEL, "gemma2": GEMMA2, "gemma3-scaled": SCALED}.items()]  # fmt: skip


def packed() -> Tensor:
    """(3, 40): documents that end with END where ``CUTS`` says, but for the last, which the window cuts."""
    ids = torch.randint(0, END, (3, 40), generator=torch.Generator().manual_seed(1))
    for row, cuts in zip(ids, CUTS, strict=True):
        for end in cuts[1:-1]:
            if end < 40:
                row[end - 1] = END
    return ids


def alone(model: Gemma, ids: Tensor) -> Tensor:
    """The logits of each document by itself, put together."""
    rows = [
        torch.cat([model(row[None, start:end])[0] for start, end in pairwise(cuts) if end > start])
        for row, cuts in zip(ids, CUTS, strict=True)
    ]
    return torch.stack(rows)


def test_documents_are_numbered_by_the_ends_before_them() -> None:
    ids = torch.tensor([[5, 9, 9, 6, 7], [9, 1, 2, 3, 9]])
    assert document_numbers(ids, end_id=9).tolist() == [[0, 0, 1, 2, 2], [0, 1, 1, 1, 1]]


def test_positions_begin_anew_in_each_document() -> None:
    assert positions_within(torch.tensor([[0, 0, 1, 2, 2], [4, 4, 4, 4, 7]])).tolist() == [
        [0, 1, 0, 0, 1],
        [0, 1, 2, 3, 0],
    ]


def test_query_sees_its_own_document_within_its_window() -> None:
    places = torch.arange(5)
    seen = visible(places, places, 2, None, torch.tensor([[0, 0, 0, 1, 1]]))
    assert seen.int().tolist() == [[[
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]]]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_packed_documents_have_the_logits_of_each_alone(config: ModelConfig) -> None:
    model, ids = make_model(config=config).eval(), packed()
    with torch.no_grad():
        together, apart = model(ids, documents=document_numbers(ids, END)), alone(model, ids)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    assert (model(ids) - apart).abs().max() > 0.1, "without the mask they look at each other"


@pytest.mark.parametrize("config", CONFIGS)
def test_packed_documents_have_the_gradient_of_each_alone(config: ModelConfig) -> None:
    ids = packed()
    targets = ids.roll(-1, dims=1)
    gradients = []
    for documents in (document_numbers(ids, END), None):
        model = make_model(config=config).train()
        model.model.gradient_checkpointing = documents is not None
        hidden = (
            torch.stack([
                torch.cat([model.hidden(row[None, a:b])[0] for a, b in pairwise(cuts) if b > a])
                for row, cuts in zip(ids, CUTS, strict=True)
            ])
            if documents is None
            else model.hidden(ids, documents=documents)
        )  # fmt: skip
        loss, _ = next_token_loss(hidden, model.output_weight, targets, softcap=30.0, multiplier=1 / ids.numel())
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # what torch's compiler does to itself
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning",
)
@pytest.mark.parametrize("config", CONFIGS)
def test_compiled_blocks_keep_documents_apart(config: ModelConfig) -> None:
    model, ids = make_model(config=config), packed()
    with torch.no_grad():
        apart = alone(model.eval(), ids)
    model.train()
    model.model.through = through_compiled_block
    for frugal in (False, True):
        model.model.gradient_checkpointing = frugal
        together = model(ids, documents=document_numbers(ids, END))
        torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
        together.sum().backward()
