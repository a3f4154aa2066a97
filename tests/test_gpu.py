"""What a CUDA device alone can tell: `make test-gpu`. Elsewhere they are passed over."""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.data.batch import Bookmark, Passage, document_numbers
from gemmazero.data.feed import Feed
from gemmazero.model.gemma import Gemma
from gemmazero.training.compiling import set_compiled
from gemmazero.training.loss import next_token_loss
from gemmazero.training.probe import RandomBatches, probe
from gemmazero.training.trainer import Attempt, Trainer
from tiny_run import MODEL, SETTINGS, make_model, step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
LONG = replace(MODEL, max_position_embeddings=1024, sliding_window=150)
GEMMA2 = replace(LONG, model_type="gemma2", attn_logit_softcapping=20.0)
WIDE = replace(LONG, head_dim=256, query_pre_attn_scalar=256)


def gradients(model: Gemma, ids: Tensor, *, precision: torch.dtype, has_documents: bool) -> tuple[float, Tensor]:
    """Mean loss and all gradients."""
    documents = document_numbers(ids, 7) if has_documents else None
    with torch.autocast(ids.device.type, precision, enabled=precision != torch.float32):
        hidden = model.train().hidden(ids, documents=documents)
        loss, nats = next_token_loss(
            hidden, model.output_weight, ids.roll(-1, 1), softcap=10.0, multiplier=1 / ids.numel(), is_fused=ids.is_cuda
        )
    loss.backward()  # type: ignore[no-untyped-call]
    return float(nats) / ids.numel(), torch.cat([weight.grad.flatten().cpu() for weight in model.parameters()])


@pytest.mark.parametrize("time", [256, 300, 1000])
@pytest.mark.parametrize("has_documents", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("config", [LONG, GEMMA2, WIDE], ids=["gemma3", "gemma2", "heads of 256"])
def test_compiled_tiles_give_the_gradients_of_a_cpu(
    config: ModelConfig, checkpointing: bool, has_documents: bool, time: int
) -> None:
    ids = torch.randint(0, 60, (2, time), generator=torch.Generator().manual_seed(1))
    expected, right = gradients(make_model(config=config), ids, precision=torch.float32, has_documents=has_documents)
    for precision, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 5e-2)):
        torch._dynamo.reset()
        model = make_model(config=config).to("cuda")
        model.model.gradient_checkpointing = checkpointing
        set_compiled(model.model, torch.device("cuda"), is_compiled=True)
        assert model.model.fuses
        loss, found = gradients(model, ids.cuda(), precision=precision, has_documents=has_documents)
        assert loss == pytest.approx(expected, rel=tolerance)
        assert (found - right).norm() < tolerance * right.norm()


class Numbered(RandomBatches):
    """Random batches, each a function of its number."""

    def starting_at(self, number: int, bookmark: Bookmark | None = None) -> Iterator[Passage]:
        for one in count(number):
            yield next(super().starting_at(one, bookmark))


def make_trainer(model: ModelConfig, **settings: Any) -> Trainer:
    """On the GPU, with random tokens from pinned memory."""
    config = TrainConfig(**SETTINGS | {"device": "cuda", "sequence_length": 512} | settings)
    feed = Feed(Numbered(model.vocab_size, config), config.batch_tokens, pinned=True)
    return Trainer(make_model(config=model).to("cuda"), feed, config, torch.device("cuda"))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("has_documents", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])  # bitsandbytes waits after each parameter, and is not seen to
def test_step_waits_for_the_gpu_once(optimizer: str, has_documents: bool, compiled: bool) -> None:
    settings = {"micro_batch_size": 2, "precision": "bf16", "compile": compiled, "mask_documents": has_documents}
    trainer = make_trainer(LONG, optimizer=optimizer, **settings)
    for _ in range(2):
        step(trainer)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            step(trainer)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([one for one in told if "synchronizing CUDA operation" in str(one.message)]) == 1
    trainer.feed.close()


def test_probe_asks_for_no_gradient_while_the_weights_still_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left to do when a gradient begins would be taken for the gradient's own time."""
    is_idle: list[bool] = []
    attempt = Trainer.attempt

    def watched(trainer: Trainer) -> Attempt:
        is_idle.append(torch.cuda.current_stream().query())
        return attempt(trainer)

    monkeypatch.setattr(Trainer, "attempt", watched)
    large = replace(LONG, hidden_size=2048, intermediate_size=8192, vocab_size=100_000)
    settings = TrainConfig(**SETTINGS | {"device": "cuda", "optimizer": "muon", "precision": "bf16", "compile": False})
    probe(large, settings)
    assert len(is_idle) > 3
    assert all(is_idle[1:-1])  # before the first one the weights come, before the last one a validation


def peak(length: int, window: int) -> int:
    """Bytes of a compiled forward and backward pass through sliding layers alone, weights left out."""
    config = replace(
        LONG, max_position_embeddings=length, sliding_window=window, layer_types=("sliding_attention",) * 2
    )
    model = make_model(config=config).to("cuda")
    set_compiled(model.model, torch.device("cuda"), is_compiled=True)
    assert model.model.fuses
    ids = torch.zeros(1, length, dtype=torch.int64, device="cuda")
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        model.train().hidden(ids).sum().backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
    return torch.cuda.max_memory_allocated() - before


def test_memory_of_compiled_sliding_layers_grows_with_the_text_and_not_with_its_square() -> None:
    assert peak(16_384, 256) < 5 * peak(4096, 256)


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "bf16"), ("adamw", "fp16"), ("muon", "fp16"), ("adamw8bit", "bf16")]
)
def test_training_on_a_gpu_goes_on_from_its_state(optimizer: str, precision: str) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "precision": precision, "compile": True}
    straight = make_trainer(LONG, **settings)
    for _ in range(2):
        step(straight)
    state = copy.deepcopy(straight.state_dict())  # its tensors are alive
    weights = {name: weight.clone() for name, weight in straight.model.state_dict().items()}
    expected = [step(straight).loss for _ in range(3)]
    resumed = make_trainer(LONG, **settings)
    resumed.model.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert [step(resumed).loss for _ in range(3)] == pytest.approx(expected, rel=1e-4)
    for trainer in (straight, resumed):
        trainer.feed.close()
