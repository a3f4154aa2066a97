"""The core law: a run stopped anywhere and resumed ends with the bits of the run that was never stopped."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import gemmazero
from gemmazero.data.batches import Batches
from gemmazero.data.shards import TokenShards
from gemmazero.training.events import Event, Finished, Resumed, Stepped
from gemmazero.training.precision import Precision
from gemmazero.training.trainer import Trainer
from outcome import differences, outcome
from program import run_forked
from tiny_run import SETTINGS, prepare_data

CONFIG = SETTINGS | {"batch_size": 8, "micro_batch_size": 3, "validation_tokens": 48}
STRAIGHT = [
    "started0", "stepped1", "stepped2", "saved2", "stepped3", "validated3", "saved3", "stepped4", "saved4", "stepped5",
    "stepped6", "validated6", "saved6", "finished6",
]  # fmt: skip
PRECISIONS, OPTIMIZERS = ("fp32", "bf16"), ("adamw", "adamw8bit", "muon")
VARIANTS = {
    f"{precision}-{optimizer}-micro{micro}{'-checkpointing' * frugal}": {
        "precision": precision, "optimizer": optimizer, "micro_batch_size": micro, "gradient_checkpointing": frugal,
    }
    for precision, optimizer, micro, frugal in itertools.product(PRECISIONS, OPTIMIZERS, (3, 8), (False, True))
}  # fmt: skip
PAIRS = (  # each value of a setting with each value of any other; all combinations in `make test-slow`
    "fp32-adamw-micro3", "fp32-adamw8bit-micro8", "fp32-muon-micro3-checkpointing",
    "bf16-adamw-micro8-checkpointing", "bf16-adamw8bit-micro3-checkpointing", "bf16-muon-micro8",
)  # fmt: skip
OFTEN = ("fp32-adamw-micro3", "bf16-adamw8bit-micro3-checkpointing")


def variants(names: Sequence[str]) -> list[Any]:
    """All of them as parameters; those that are not named are slow."""
    return [
        pytest.param(settings, id=name, marks=() if name in names else pytest.mark.slow)
        for name, settings in VARIANTS.items()
    ]


Run = Callable[[dict[str, Any]], gemmazero.Training]
Straight = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text for three and a half steps: every run here begins a second epoch, in the middle of a batch."""
    data = prepare_data(tmp_path_factory.mktemp("resume") / "short", documents=24)
    batches = Batches(TokenShards(data, "train"), batch_size=8, sequence_length=16, seed=0)
    assert 2 * 8 < batches.windows < 5 * 8
    assert batches.windows % 8
    return data


@pytest.fixture(scope="session")
def straight(data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    """The outcome of the run with these settings that is never stopped; computed once."""
    known: dict[str, dict[str, Any]] = {}

    def outcome_of(settings: dict[str, Any]) -> dict[str, Any]:
        name = json.dumps(settings, sort_keys=True)
        if name not in known:
            run = tmp_path_factory.mktemp("straight") / "run"
            told = [name_of(event) for event in watched(training(tiny_preset, data, run, settings))]
            assert told == STRAIGHT
            known[name] = outcome(run)
        return known[name]

    return outcome_of


@pytest.fixture
def run(data: Path, tiny_preset: Path, tmp_path: Path) -> Run:
    return lambda settings: training(tiny_preset, data, tmp_path / "run", settings)


def training(preset: Path, data: Path, out: Path, settings: dict[str, Any]) -> gemmazero.Training:
    return gemmazero.train(preset=str(preset), data=data, out=out, **CONFIG | settings)


def watched(training: gemmazero.Training) -> Iterator[Event]:
    """The run's events, for a user whose own code draws random numbers after each step."""
    for event in training:
        if isinstance(event, Stepped):
            torch.rand(3)
        yield event


def name_of(event: Event) -> str:
    return f"{type(event).__name__.lower()}{event.step}"


def leave_after(training: gemmazero.Training, events: int) -> list[Event]:
    """Leave the loop at its event number ``events``, as ``break`` does; a finished run ends by itself."""
    generator = watched(training)
    told = list(itertools.islice(generator, events))
    generator.close()
    return told


def one_session_an_event(run: Run, settings: dict[str, Any]) -> Iterator[list[Event]]:
    """Sessions that are left after one event each, beside the Started or Resumed that they begin with."""
    session = leave_after(run(settings), 2)
    yield session
    while not isinstance(session[-1], Finished):
        session = leave_after(run(settings), 2)
        assert isinstance(session[0], Resumed)
        yield session


@pytest.mark.parametrize("settings", variants(PAIRS))
def test_run_stopped_at_every_event_ends_as_the_run_never_stopped(
    settings: dict[str, Any], run: Run, straight: Straight, tmp_path: Path
) -> None:
    told = [name_of(session[-1]) for session in one_session_an_event(run, settings)]
    learned = [name for name in STRAIGHT if name.startswith(("stepped", "validated"))]
    assert [name for name in told if not name.startswith("saved")] == [*learned, "finished6"], "nothing is done twice"
    assert differences(outcome(tmp_path / "run"), straight(settings)) == []


@pytest.mark.parametrize("place", range(1, len(STRAIGHT)), ids=[f"after-{name}" for name in STRAIGHT[:-1]])
@pytest.mark.parametrize("settings", variants(OFTEN))
def test_run_stopped_once_anywhere_ends_as_the_run_never_stopped(
    settings: dict[str, Any],
    place: int,
    run: Run,
    straight: Straight,
    tmp_path: Path,
) -> None:
    told = leave_after(run(settings), place)
    assert [name_of(event) for event in told] == STRAIGHT[:place]
    *_, last = watched(run(settings))
    assert isinstance(last, Finished)
    assert differences(outcome(tmp_path / "run"), straight(settings)) == []


@pytest.fixture
def overflowing_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own GradScaler, with a first scale that must overflow and that grows too far every second step."""
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**40, growth_factor=256.0, growth_interval=2)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)


def scale_of(run: Path) -> float:
    newest = max((run / "checkpoints").iterdir(), key=lambda path: path.name)
    return float(json.loads((newest / "training" / "state.json").read_text())["scaler"]["scale"])


@pytest.mark.usefixtures("overflowing_scaler")
@pytest.mark.parametrize(
    "optimizer", [OPTIMIZERS[0], *(pytest.param(other, marks=pytest.mark.slow) for other in OPTIMIZERS[1:])]
)
def test_fp16_run_that_overflows_on_the_way_goes_on_to_the_bit(
    optimizer: str, run: Run, straight: Straight, tmp_path: Path
) -> None:
    settings = {"precision": "fp16", "optimizer": optimizer}
    sessions = one_session_an_event(run, settings)
    scales = [scale_of(tmp_path / "run") for session in sessions if isinstance(session[-1], Stepped)]
    assert scales[0] < 2.0**40, "the first step overflowed"
    assert any(later < earlier for earlier, later in itertools.pairwise(scales)), "and so did one after a resume"
    assert differences(outcome(tmp_path / "run"), straight(settings)) == []


def test_run_resumed_by_the_program_in_another_process_ends_the_same(
    data: Path, tiny_preset: Path, tmp_path: Path
) -> None:
    settings = {"precision": "bf16", "optimizer": "adamw8bit", "gradient_checkpointing": True}
    training(tiny_preset, data, tmp_path / "straight", settings).run()
    for event in training(tiny_preset, data, tmp_path / "run", settings):
        if event.step == 3:
            break
    finished = run_forked(tmp_path, "resume", tmp_path / "run")
    assert finished.returncode == 0, finished.stderr
    assert differences(outcome(tmp_path / "run"), outcome(tmp_path / "straight")) == []


def forget_scaler(trainer: Trainer) -> None:
    trainer.precision = Precision(trainer.config.precision, trainer.device)


def forget_random_state(trainer: Trainer) -> None:
    torch.manual_seed(trainer.config.seed)


def forget_adam_step(trainer: Trainer) -> None:
    for part in trainer.optimizer.parts:
        for state in part.state.values():
            state["step"] = state["step"] * 0


def forget_adam_moments(trainer: Trainer) -> None:
    for part in trainer.optimizer.parts:
        part.state.clear()


def forget_batch(trainer: Trainer) -> None:
    trainer.batch = 0


def forget_validation(trainer: Trainer) -> None:
    trainer.validated_step = 0


@pytest.mark.usefixtures("overflowing_scaler")
@pytest.mark.parametrize(
    ("precision", "optimizer", "forget"),
    [
        ("fp16", "adamw", forget_scaler),
        ("fp32", "adamw", forget_random_state),
        ("fp32", "adamw", forget_adam_step),
        ("fp32", "adamw8bit", forget_adam_step),
        ("bf16", "adamw8bit", forget_adam_moments),
        ("fp32", "adamw", forget_batch),
        ("fp32", "adamw", forget_validation),
    ],
)
def test_law_fails_where_a_part_of_the_state_is_left_out(
    precision: str,
    optimizer: str,
    forget: Callable[[Trainer], None],
    run: Run,
    straight: Straight,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"precision": precision, "optimizer": optimizer}
    expected = straight(settings)
    leave_after(run(settings), STRAIGHT.index("validated3") + 1)
    load = Trainer.load_state_dict

    def load_all_but_one(trainer: Trainer, state: dict[str, Any]) -> None:
        load(trainer, state)
        forget(trainer)

    monkeypatch.setattr(Trainer, "load_state_dict", load_all_but_one)
    for _ in watched(run(settings)):
        pass
    assert differences(outcome(tmp_path / "run"), expected) != []
