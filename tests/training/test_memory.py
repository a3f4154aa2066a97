from dataclasses import replace
from typing import Any

import pytest
import torch

from gemmazero.config import ModelConfig, PrecisionName, TrainConfig
from gemmazero.data.batch import Batch
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import using_threads
from gemmazero.training import loss as loss_file
from gemmazero.training.loss import next_token_loss
from gemmazero.training.memory import Bytes, counted, memory_model
from gemmazero.training.optimizer import Optimizer
from gemmazero.training.precision import Precision
from tiny_run import MODEL

CPU = torch.device("cpu")
LENGTH = 64
DEEP = replace(
    MODEL, hidden_size=64, intermediate_size=256, num_hidden_layers=6,
    layer_types=("sliding_attention",) * 5 + ("full_attention",),
)  # fmt: skip


def settings(**given: object) -> TrainConfig:
    usual = {"batch_size": 12, "sequence_length": LENGTH, "precision": "fp32", "device": "cpu", "threads": 1}
    return TrainConfig(**usual | given)  # type: ignore[arg-type]


def test_layers_are_tried_with_the_threads_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    hidden = Gemma.hidden

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        counts.append(torch.get_num_threads())
        return hidden(*arguments, **options)

    monkeypatch.setattr(Gemma, "hidden", watched)
    with using_threads(1):
        memory_model(MODEL, settings(sequence_length=8, threads=2), CPU)
    assert set(counts) == {2}


def kept_for_backward(model: ModelConfig, size: int, *, frugal: bool = False) -> int:
    """Bytes of what autograd saves in the whole model, each storage once, but for the parameters."""
    gemma = Gemma(model).train()
    gemma.model.gradient_checkpointing = frugal
    parameters = {parameter.untyped_storage().data_ptr() for parameter in gemma.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(size, LENGTH, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = gemma.hidden(Batch.of(ids, ids, None).ids)
    assert hidden.requires_grad
    return sum(saved.values())


def test_bytes_go_through_what_was_measured() -> None:
    line = Bytes.through(30, 50)
    assert [line.of(size) for size in (1, 2, 5)] == [30, 50, 110]
    assert [line.plus(line.times(2)).of(size) for size in (1, 2)] == [90, 150]


def test_live_storages_are_counted_once_and_only_while_they_live() -> None:
    with counted() as count:
        first = torch.zeros(100)
        view = first[10:]
        second = torch.ones(50)
        assert count.now == 600
        del second
        assert (count.now, count.most) == (400, 600)
        del first
        assert count.now == 400
        del view
        assert (count.now, count.most) == (0, 600)


@pytest.mark.parametrize("size", [1, 4])
def test_predicted_activations_are_what_autograd_keeps_in_the_whole_model(size: int) -> None:
    predicted = memory_model(DEEP, settings(), CPU).memory(settings(), size).activations
    assert predicted == pytest.approx(kept_for_backward(DEEP, size), rel=0.1)


def test_checkpointing_keeps_little_and_works_with_one_layer_more() -> None:
    frugal = memory_model(DEEP, settings(gradient_checkpointing=True), CPU)
    lavish = memory_model(DEEP, settings(), CPU)
    assert frugal.activations.of(4) < lavish.activations.of(4) / 5
    assert frugal.working.of(4) > lavish.activations.of(4) / DEEP.num_hidden_layers / 2


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_parameters_and_optimizer_take_what_the_whole_model_takes(optimizer: str, *, tied: bool) -> None:
    config = replace(DEEP, vocab_size=1000, tie_word_embeddings=tied)
    model, chosen = Gemma(config), settings(optimizer=optimizer)
    whole = Optimizer(model, chosen)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for part in whole.parts:
        part.step()
    moments = [value for name, value in whole.state_dict().items() if value.dim() and "qmap" not in name]
    predicted = memory_model(config, chosen, CPU)
    assert predicted.parameters == sum(parameter.nbytes for parameter in model.parameters())
    assert predicted.optimizer == pytest.approx(sum(moment.nbytes for moment in moments), rel=0.02)


def test_more_sequences_take_more_and_accumulating_takes_the_gradients_besides() -> None:
    model = memory_model(DEEP, settings(), CPU)
    totals = [model.memory(settings(), size, process=7).total for size in (1, 2, 6)]
    assert totals == sorted(totals)
    whole, part = (model.memory(settings(batch_size=size), 6).total for size in (6, 12))
    assert part - whole == pytest.approx(model.parameters, rel=0.5)


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_has_as_many_chunks_of_logits_at_once_as_are_planned(
    precision: PrecisionName, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary, width, rows = 8192, 8, 64
    monkeypatch.setattr(loss_file, "CHUNK_BYTES", rows * vocabulary * 4)
    model = replace(MODEL, vocab_size=vocabulary, hidden_size=width, final_logit_softcapping=softcap)
    planned = memory_model(model, settings(precision=precision), CPU)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    hidden, targets = torch.randn(2, 2 * rows, width), torch.zeros(2, 2 * rows, dtype=torch.int64)
    with counted() as count, Precision(precision, CPU).autocast():
        next_token_loss(hidden, weight, targets, softcap=softcap, multiplier=1.0)
    chunks = count.most / (rows * vocabulary * 4)
    assert planned.chunks <= chunks <= planned.chunks + 2 * weight.nbytes / (rows * vocabulary * 4)
