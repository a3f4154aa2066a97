import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gemmazero.model.gemma import Gemma
from gemmazero.training.trainer import Best, Trainer
from tiny_run import make_model, make_trainer, step

PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])


def full_batch(model: Gemma, trainer: Trainer, number: int = 0) -> tuple[float, dict[str, Tensor]]:
    """Torch's own loss and gradients of a whole batch at once, in float32."""
    batch = trainer.feed[number]
    loss = F.cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten())
    names, parameters = zip(*model.named_parameters(), strict=True)
    return loss.item(), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def norm_of(gradients: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))


def seen_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """What AdamW was given in a first step with beta1 = 0: its first moment."""
    state = trainer.optimizer.state_dict()
    return {name: state[f"{name}.exp_avg"] for name, _ in trainer.model.named_parameters()}


def weights_equal(first: Gemma, second: Gemma) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def states_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(states_equal(first[name], second[name]) for name in first)
    return torch.equal(first, second) if isinstance(first, Tensor) else bool(first == second)


def set_scale(trainer: Trainer, scale: float) -> None:
    scaler = trainer.precision.scaler
    scaler.load_state_dict(scaler.state_dict() | {"scale": scale})


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 4])
def test_accumulated_gradient_is_that_of_the_whole_batch(tiny_data: Path, micro_batch_size: int) -> None:
    trainer = make_trainer(tiny_data, micro_batch_size=micro_batch_size, beta1=0.0, clip_norm=0.0)
    loss, gradients = full_batch(make_model(), trainer)
    stepped = step(trainer)
    assert stepped.loss == pytest.approx(loss, rel=1e-6)
    assert stepped.gradient_norm == pytest.approx(norm_of(gradients), rel=1e-5)
    for name, gradient in seen_gradients(trainer).items():
        torch.testing.assert_close(gradient, gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 4.0])
def test_norm_is_told_before_clipping_and_never_raised(tiny_data: Path, share: float) -> None:
    trainer = make_trainer(tiny_data, beta1=0.0)
    _, gradients = full_batch(make_model(), trainer)
    norm = norm_of(gradients)
    trainer = make_trainer(tiny_data, beta1=0.0, clip_norm=share * norm)
    assert step(trainer).gradient_norm == pytest.approx(norm, rel=1e-5)
    for name, gradient in seen_gradients(trainer).items():
        torch.testing.assert_close(gradient, gradients[name] * min(share, 1.0), rtol=1e-4, atol=1e-6)


def test_fp16_is_unscaled_before_it_is_clipped(tiny_data: Path) -> None:
    _, gradients = full_batch(make_model(), make_trainer(tiny_data))
    norm = norm_of(gradients)
    trainer = make_trainer(tiny_data, precision="fp16", beta1=0.0, clip_norm=norm / 2)
    set_scale(trainer, 1024.0)
    assert step(trainer).gradient_norm == pytest.approx(norm, rel=0.01)
    assert norm_of(seen_gradients(trainer)) == pytest.approx(norm / 2, rel=1e-4)


def test_overflow_halves_the_scale_and_tries_the_same_batch_again(tiny_data: Path) -> None:
    overflowing = make_trainer(tiny_data, precision="fp16", micro_batch_size=2)
    set_scale(overflowing, 2.0**40)
    first = step(overflowing)
    scale = overflowing.precision.scaler.get_scale()
    assert scale < 2.0**40
    assert math.log2(scale).is_integer()
    calm = make_trainer(tiny_data, precision="fp16", micro_batch_size=2)
    set_scale(calm, scale)
    second = step(calm)
    assert calm.precision.scaler.get_scale() == scale, "the scale found is the first that does not overflow"
    assert (first.step, first.loss, first.gradient_norm, first.tokens) == (1, second.loss, second.gradient_norm, 64)
    assert overflowing.batch == 1
    assert weights_equal(overflowing.model, calm.model)
    assert states_equal(overflowing.state_dict(), calm.state_dict())


@PRECISIONS
def test_gradient_that_stays_infinite_is_told_and_skipping_it_changes_nothing_but_the_place(
    tiny_data: Path, precision: str
) -> None:
    model = make_model()
    with torch.no_grad():
        model.output_weight[5, 5] = math.nan
    trainer = make_trainer(tiny_data, model, precision=precision)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    before = trainer.state_dict()
    attempt = trainer.attempt()
    assert not math.isfinite(attempt.gradient_norm)
    assert trainer.not_finite()["weights"] == ["model.embed_tokens.weight"]
    trainer.skip(attempt)
    after = trainer.state_dict()
    differing = {name: value for name, value in after["record"].items() if value != before["record"][name]}
    assert differing == {"batch": 1, "skips": 1, "skipped_in_a_row": 1}
    assert states_equal(after["tensors"], before["tensors"])
    assert all(torch.equal(w.nan_to_num(), weights[n].nan_to_num()) for n, w in model.state_dict().items())


@PRECISIONS
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_only_the_gradients_that_are_no_numbers_are_named(tiny_data: Path, precision: str, bad: float) -> None:
    trainer = make_trainer(tiny_data, precision=precision)
    name = "model.layers.1.mlp.up_proj.weight"
    trainer.model.get_parameter(name).register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([3]), bad))
    assert not math.isfinite(trainer.attempt().gradient_norm)
    assert trainer.not_finite() == {"weights": [], "gradients": [name]}


@PRECISIONS
def test_finite_batch_may_be_skipped_and_the_next_is_as_if_it_had_never_been_read(
    tiny_data: Path, precision: str
) -> None:
    skipping, other = (make_trainer(tiny_data, precision=precision) for _ in range(2))
    skipping.skip(skipping.attempt())
    other.batch = 1
    assert step(skipping).loss == step(other).loss
    assert weights_equal(skipping.model, other.model)
    assert skipping.skipped_in_a_row == 0
    assert skipping.precision.scaler.state_dict() == other.precision.scaler.state_dict()


def test_state_of_another_model_is_refused(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data, optimizer="adamw8bit")
    step(trainer)
    state = trainer.state_dict()
    name = next(name for name in state["tensors"]["optimizer"] if name.endswith("absmax1"))
    sound = state["tensors"]["optimizer"]
    for damaged in (sound | {name: torch.zeros(1)}, sound | {"more": torch.zeros(1)}, {}):
        tensors = state["tensors"] | {"optimizer": damaged}
        with pytest.raises(ValueError, match=r"optimizer('s)? state"):
            trainer.load_state_dict(state | {"tensors": tensors})


@PRECISIONS
@OPTIMIZERS
def test_weights_stay_float32_and_each_of_them_moves(tiny_data: Path, precision: str, optimizer: str) -> None:
    trainer = make_trainer(tiny_data, precision=precision, optimizer=optimizer, learning_rate=1e-5, warmup_steps=0)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    for _ in range(2):
        step(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert parameter.dtype == torch.float32
        changed = (parameter != before[name]).float()
        used = changed.any(dim=-1).float().mean() if "embed" in name else changed.mean()
        assert used > 0.9, name  # a bfloat16 weight would not feel a hundred-thousandth


class Readings(TorchDispatchMode):
    """Counts what a GPU would have to be waited for: single numbers that are asked for, and sizes that depend on them.

    It does not see ``tolist``.
    """

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.operations += [name for name in self.WAITING if operation.overloadpacket.__name__ == name]
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@OPTIMIZERS
def test_step_reads_its_loss_and_its_gradient_norm_together_and_no_other_number(
    tiny_data: Path, precision: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"micro_batch_size": 3, "mask_documents": True, "gradient_checkpointing": True}
    trainer = make_trainer(tiny_data, precision=precision, optimizer=optimizer, **settings)
    read, tolist = [], Tensor.tolist
    trainer.feed[0]  # whose thread may read what it likes
    monkeypatch.setattr(Tensor, "tolist", lambda numbers: read.append(len(numbers)) or tolist(numbers))
    with Readings() as readings:
        step(trainer)
    micro_batches = 2
    assert (
        readings.operations == ["_local_scalar_dense"] * micro_batches
    )  # is the loss multiplied? A CPU alone is asked
    assert read == [2]


@PRECISIONS
def test_gradient_checkpointing_changes_no_bit(tiny_data: Path, precision: str) -> None:
    plain, frugal = (
        make_trainer(tiny_data, precision=precision, gradient_checkpointing=frugal) for frugal in (False, True)
    )
    assert frugal.model.model.gradient_checkpointing
    for _ in range(2):
        first, second = step(plain), step(frugal)
        assert (first.loss, first.gradient_norm) == (second.loss, second.gradient_norm)
    assert weights_equal(plain.model, frugal.model)


def test_steps_tokens_and_learning_rate_count_optimizer_steps(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data, micro_batch_size=1, schedule="constant", learning_rate=0.01, warmup_steps=4)
    events = [step(trainer) for _ in range(6)]
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.tokens for event in events] == [64, 128, 192, 256, 320, 384]
    assert [event.learning_rate for event in events] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    assert all(event.seconds > 0 and event.tokens_per_second > 0 and event.memory_bytes > 0 for event in events)


@OPTIMIZERS
@PRECISIONS
def test_trainer_goes_on_from_its_state_to_the_bit(tiny_data: Path, precision: str, optimizer: str) -> None:
    settings = {"precision": precision, "optimizer": optimizer, "micro_batch_size": 2}
    straight = make_trainer(tiny_data, **settings)
    for _ in range(2):
        step(straight)
    straight.best, straight.validated_step = Best(step=1, loss=3.5), 2
    model = make_model(seed=9)
    model.load_state_dict(straight.model.state_dict())
    state = straight.state_dict()
    resumed = make_trainer(tiny_data, model, **settings)
    resumed.load_state_dict({"tensors": state["tensors"], "record": json.loads(json.dumps(state["record"]))})
    assert states_equal(resumed.state_dict(), state)
    assert (resumed.best, resumed.validated_step) == (Best(step=1, loss=3.5), 2)
    for _ in range(2):
        first, second = step(straight), step(resumed)
        assert (first.step, first.loss, first.gradient_norm) == (second.step, second.loss, second.gradient_norm)
    assert weights_equal(resumed.model, straight.model)
    assert states_equal(resumed.state_dict(), straight.state_dict())


def test_training_learns(tiny_data: Path) -> None:
    trainer = make_trainer(tiny_data, steps=40, batch_size=8, micro_batch_size=8)
    losses = [step(trainer).loss for _ in range(40)]
    assert sum(losses[-5:]) / 5 < losses[0] - 2
