import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemmazero.config import TrainConfig
from gemmazero.model.gemma import Gemma
from gemmazero.presets import find_preset
from gemmazero.training.optimizer import Optimizer, learning_rate_at
from tiny_run import MODEL, SETTINGS, make_model

OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])


def config(**settings: object) -> TrainConfig:
    return TrainConfig(**SETTINGS | {"weight_decay": 0.2, "beta1": 0.8, "beta2": 0.9} | settings)


def randomize_gradients(model: Gemma, step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def advance(model: Gemma, optimizer: Optimizer, step: int) -> None:
    randomize_gradients(model, step)
    optimizer.set_learning_rate(0.01 * step)
    for part in optimizer.parts:
        part.step()
    optimizer.zero_grad()


def stored(optimizer: Optimizer, folder: Path) -> dict[str, Tensor]:
    save_file({name: value.contiguous() for name, value in optimizer.state_dict().items()}, folder / "state")
    tensors: dict[str, Tensor] = load_file(folder / "state")
    return tensors


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("cosine", [0.5, 1.0, 0.9657458, 0.8681981, 0.7222075, 0.55, 0.3777925, 0.2318019, 0.1342542, 0.1]),
        ("wsd", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.55, 0.1]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rate_of_every_step(schedule: str, rates: list[float]) -> None:
    settings = config(steps=10, warmup_steps=2, learning_rate=1.0, min_learning_rate=0.1, schedule=schedule)
    assert [learning_rate_at(step, settings, settings.steps) for step in range(1, 11)] == pytest.approx(rates, abs=1e-7)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 97])
def test_learning_rate_warms_up_then_falls_to_the_minimum(schedule: str, steps: int) -> None:
    for warmup in {0, 1, steps // 2, steps - 1} - {steps}:
        settings = config(steps=steps, warmup_steps=warmup, learning_rate=0.3, min_learning_rate=0.0, schedule=schedule)
        rates = [learning_rate_at(step, settings, settings.steps) for step in range(1, steps + 1)]
        assert rates[-1] == pytest.approx(0.0, abs=1e-17)
        assert all(0.0 <= rate <= 0.3 for rate in rates)
        assert rates[:warmup] == sorted(rates[:warmup])
        assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_learning_rate_stays_where_its_curve_ended(schedule: str) -> None:
    settings = config(steps=30, warmup_steps=2, learning_rate=0.3, min_learning_rate=0.1, schedule=schedule)
    rates = [learning_rate_at(step, settings, 10) for step in range(1, 31)]
    shorter = replace(settings, steps=10)
    assert rates[:10] == [learning_rate_at(step, shorter, 10) for step in range(1, 11)]
    assert set(rates[10:]) == {0.3 if schedule == "constant" else 0.1}


def test_the_moments_of_adamw_that_are_there_before_the_first_step_are_those_torch_would_make_in_it() -> None:
    ways = []
    for is_made_by_torch in (False, True):
        model = make_model()
        optimizer = Optimizer(model, config())
        assert len(optimizer.state_dict()) == 3 * len(list(model.parameters()))
        if is_made_by_torch:
            optimizer.parts[0].state.clear()
        for step in (1, 2):
            advance(model, optimizer, step)
        ways.append({**model.state_dict(), **optimizer.state_dict()})
    before, made_by_torch = ways
    assert before.keys() == made_by_torch.keys()
    assert all(torch.equal(before[name], made_by_torch[name]) for name in before)
    assert all(before[name].dtype == made_by_torch[name].dtype for name in before)


@OPTIMIZERS
def test_state_before_the_first_step_is_taken_up_too(optimizer: str) -> None:
    settings = config(optimizer=optimizer)
    models = [make_model(), make_model()]
    first, second = (Optimizer(model, settings) for model in models)
    second.load_state_dict(first.state_dict())
    for model, own in zip(models, (first, second), strict=True):
        advance(model, own, 1)
    assert all(map(torch.equal, *(model.state_dict().values() for model in models)))


@pytest.mark.parametrize("tied", [True, False])
def test_adamw_is_the_published_update_and_spares_norms_and_embeddings(tied: bool) -> None:
    model = make_model(config=replace(MODEL, tie_word_embeddings=tied))
    settings = config()
    optimizer = Optimizer(model, settings)
    expected = {name: weight.detach().double() for name, weight in model.named_parameters()}
    first = {name: torch.zeros_like(weight) for name, weight in expected.items()}
    second = {name: torch.zeros_like(weight) for name, weight in expected.items()}
    for step in (1, 2, 3):
        randomize_gradients(model, step)
        rate = 0.01 * step
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            gradient = parameter.grad.double()
            if "norm" not in name and "embed" not in name:
                expected[name] *= 1 - rate * settings.weight_decay
            first[name] = settings.beta1 * first[name] + (1 - settings.beta1) * gradient
            second[name] = settings.beta2 * second[name] + (1 - settings.beta2) * gradient**2
            mean, variance = first[name] / (1 - settings.beta1**step), second[name] / (1 - settings.beta2**step)
            expected[name] -= rate * mean / (variance.sqrt() + 1e-8)
        advance(model, optimizer, step)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_8_bit_optimizer_keeps_norms_and_an_untied_embedding_in_32_bits(*, tied: bool) -> None:
    model = Gemma(replace(MODEL, vocab_size=300, hidden_size=64, tie_word_embeddings=tied))
    optimizer = Optimizer(model, config(optimizer="adamw8bit"))
    advance(model, optimizer, 1)
    state = optimizer.state_dict()
    for name, parameter in model.named_parameters():
        if "norm" in name or ("embed" in name and not tied):
            assert state[f"{name}.exp_avg"].dtype == state[f"{name}.exp_avg_sq"].dtype == torch.float32
        elif parameter.numel() >= 4096:
            assert state[f"{name}.state1"].dtype == state[f"{name}.state2"].dtype == torch.uint8
        else:  # bitsandbytes' own limit
            assert state[f"{name}.state1"].dtype == torch.float32


def test_8_bit_state_of_a_gemma_is_less_than_three_tenths_of_adamws() -> None:
    model = Gemma(replace(find_preset("nano").model, vocab_size=8192, pad_token_id=None))
    sizes = []
    for name in ("adamw8bit", "adamw"):
        optimizer = Optimizer(model, config(optimizer=name))
        advance(model, optimizer, 1)
        sizes.append(sum(value.nbytes for key, value in optimizer.state_dict().items() if "qmap" not in key))
    assert sizes[0] < 0.3 * sizes[1]


def test_8_bit_optimizer_follows_the_32_bit_one_within_its_quantization() -> None:
    models = {name: make_model() for name in ("adamw", "adamw8bit")}
    before = {name: weight.detach().clone() for name, weight in models["adamw"].named_parameters()}
    for name, model in models.items():
        optimizer = Optimizer(model, config(optimizer=name, weight_decay=0.9))
        for step in (1, 2, 3):
            advance(model, optimizer, step)
    for (name, exact), quantized in zip(
        models["adamw"].named_parameters(), models["adamw8bit"].parameters(), strict=True
    ):
        moved = exact - before[name]
        assert (quantized - exact).norm() < 0.1 * moved.norm(), name


@OPTIMIZERS
def test_optimizer_goes_on_from_its_stored_state_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    straight, stopped = make_model(), make_model()
    settings = config(optimizer=optimizer)
    through, before = Optimizer(straight, settings), Optimizer(stopped, settings)
    for step in (1, 2):
        advance(straight, through, step)
        advance(stopped, before, step)
    state = stored(before, tmp_path)
    after = Optimizer(stopped, settings)
    after.load_state_dict(state)
    for step in (3, 4):
        advance(straight, through, step)
        advance(stopped, after, step)
    for ours, theirs in zip(stopped.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    expected = through.state_dict()
    assert after.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in after.state_dict().items())


@pytest.mark.parametrize(("kept", "wanted"), list(itertools.permutations(("adamw", "adamw8bit", "muon"), 2)))
def test_state_of_another_optimizer_is_refused(kept: str, wanted: str) -> None:
    model = make_model()
    before = Optimizer(model, config(optimizer=kept))
    advance(model, before, 1)
    with pytest.raises(ValueError, match="does not fit"):
        Optimizer(model, config(optimizer=wanted)).load_state_dict(before.state_dict())


@OPTIMIZERS
def test_every_parameter_has_state_and_every_state_is_needed(optimizer: str, tmp_path: Path) -> None:
    model = make_model()
    settings = config(optimizer=optimizer)
    before = Optimizer(model, settings)
    advance(model, before, 1)
    state = stored(before, tmp_path)
    moments = ("state1", "state2") if optimizer == "adamw8bit" else ("exp_avg", "exp_avg_sq")  # of the output matrix
    kinds = {name.rpartition(".")[2] for name in state}
    assert {name.rpartition(".")[0] for name in state} == {name for name, _ in model.named_parameters()}
    assert kinds >= {"step", *moments}
    for kind in ("step", *moments):
        straight, bereft = make_model(), make_model()
        for twin, known in ((straight, state), (bereft, state | {
            name: torch.zeros_like(value) for name, value in state.items() if name.endswith(f".{kind}")
        })):  # fmt: skip
            twin.load_state_dict(model.state_dict())
            after = Optimizer(twin, settings)
            after.load_state_dict(known)
            advance(twin, after, 2)
        assert not torch.equal(straight.output_weight, bereft.output_weight), kind
