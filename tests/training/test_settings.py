import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gemmazero.config import PrepareConfig, TrainConfig
from gemmazero.data.prepare import prepare
from gemmazero.data.shards import Manifest
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, UsageError
from gemmazero.presets import PRESETS
from gemmazero.run_config import RunConfig
from gemmazero.runtime import available_cores
from gemmazero.storage.model_folder import save_model
from gemmazero.training.settings import Request, changed, resolve
from tiny_run import MODEL, SETTINGS, make_model, prepare_data

RECORDED = TrainConfig(**SETTINGS, compile=False)
OTHER: dict[str, Any] = {  # another value of every setting
    "steps": 7, "batch_size": 5, "sequence_length": 8, "micro_batch_size": 2, "learning_rate": 0.5,
    "min_learning_rate": 1e-5, "warmup_steps": 1, "schedule": "wsd", "weight_decay": 0.3, "beta1": 0.5, "beta2": 0.5,
    "clip_norm": 2.0, "optimizer": "adamw8bit", "precision": "bf16", "gradient_checkpointing": True, "seed": 1,
    "compile": True, "device": "cuda", "threads": 3, "validate_every": 4, "validation_tokens": 99, "save_every": 5,
    "keep": 1, "save_minutes": 5.0, "max_time": "2h", "mask_documents": True, "stream": True,
    "hub_repo": "a/b", "hub_private": True, "hub_overwrite": True,
}  # fmt: skip
EQUIVALENT = {"micro_batch_size", "compile", "device", "threads"}
EXACT = {"save_every", "save_minutes", "keep", "max_time", "hub_repo", "hub_private", "hub_overwrite"}


def test_every_setting_is_of_one_of_three_kinds() -> None:
    assert OTHER.keys() == {field.name for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize("name", sorted(OTHER.keys() - EQUIVALENT - EXACT))
def test_fixed_setting_is_refused_with_its_name_and_both_values(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        changed(RECORDED, {name: OTHER[name]}, resumes=False)
    assert raised.value.message.startswith(f"{name} was {getattr(RECORDED, name)} ")
    assert raised.value.message.endswith(f" {OTHER[name]}")


@pytest.mark.parametrize("name", sorted(EQUIVALENT))
def test_equivalent_setting_is_taken_and_told(name: str) -> None:
    config, told = changed(RECORDED, {name: OTHER[name]}, resumes=False)
    assert config == dataclasses.replace(RECORDED, **{name: OTHER[name]})
    assert told == (f"{name}: {getattr(RECORDED, name)} → {OTHER[name]}",)


@pytest.mark.parametrize("name", sorted(EXACT))
def test_exact_setting_is_taken_without_a_word(name: str) -> None:
    assert changed(RECORDED, {name: OTHER[name]}, resumes=False) == (
        dataclasses.replace(RECORDED, **{name: OTHER[name]}),
        (),
    )


def test_time_limit_is_one_session_s_alone() -> None:
    limited = dataclasses.replace(RECORDED, max_time="2h")
    assert changed(limited, {}, resumes=True) == (RECORDED, ())


def test_more_steps_are_left_to_resume_and_fewer_are_refused() -> None:
    assert changed(RECORDED, {"steps": 7}, resumes=True) == (RECORDED, ())
    with pytest.raises(UsageError, match="can only grow"):
        changed(RECORDED, {"steps": 5}, resumes=True)
    with pytest.raises(UsageError) as raised:
        changed(RECORDED, {"steps": 7}, resumes=False)
    assert "resume RUN --steps 7" in raised.value.hint


def test_equal_and_automatic_settings_change_nothing() -> None:
    same = {name: getattr(RECORDED, name) for name in OTHER}
    assert changed(RECORDED, same, resumes=False) == (RECORDED, ())
    assert changed(RECORDED, {"precision": "auto", "device": "auto", "threads": 0}, resumes=False) == (RECORDED, ())


def test_automatic_settings_are_resolved_once(tiny_data: Path, tiny_preset: Path) -> None:
    train = resolve(Request(preset=str(tiny_preset), data=str(tiny_data)), tiny_data).train
    assert train.precision in ("fp32", "bf16", "fp16")
    assert train.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert train.threads == available_cores()


def test_no_more_sequences_are_taken_at_once_than_a_batch_has(tiny_data: Path, tiny_preset: Path) -> None:
    settings = {"batch_size": 4, "micro_batch_size": 16}
    train = resolve(Request(preset=str(tiny_preset), data=str(tiny_data), settings=settings), tiny_data).train
    assert train.micro_batch_size == 4


def test_run_config_names_its_data_so_that_it_can_be_prepared_again(tiny_data: Path, tiny_preset: Path) -> None:
    config = resolve(Request(preset=str(tiny_preset), data=str(tiny_data), settings=SETTINGS), tiny_data)
    manifest = Manifest.read(tiny_data)
    assert config.train == RECORDED
    assert config.preset == "tiny"
    assert config.data.manifest_digest == manifest.digest
    assert config.data.tokenizer_digest == manifest.tokenizer_digest
    again = dataclasses.replace(PrepareConfig(**config.data.options), revision=config.data.revision)
    assert (config.data.source, again.subset) == (manifest.source, manifest.subset)
    assert {name: getattr(again, name) for name in manifest.options} == dict(manifest.options)


def test_model_takes_the_vocabulary_of_the_data(tiny_data: Path) -> None:
    model = resolve(Request(preset="nano", data=str(tiny_data)), tiny_data).model
    manifest = Manifest.read(tiny_data)
    assert model.vocab_size == manifest.vocab_size == 257
    assert model.pad_token_id == model.bos_token_id == model.eos_token_id == manifest.end_id


def test_preset_decides_what_was_left_out(tiny_data: Path) -> None:
    train = resolve(Request(preset="nano", data=str(tiny_data), settings={"steps": 77}), tiny_data).train
    left_out = {name: value for name, value in PRESETS["nano"].train.items() if name not in ("steps", "warmup_steps")}
    assert train.steps == 77
    assert {name: getattr(train, name) for name in left_out} == left_out


def test_default_makes_room_for_a_given_value_that_it_does_not_fit(tiny_data: Path, tiny_preset: Path) -> None:
    def train(**settings: Any) -> TrainConfig:
        return resolve(Request(preset=str(tiny_preset), data=str(tiny_data), settings=settings), tiny_data).train

    default = TrainConfig()
    assert train().warmup_steps == default.warmup_steps
    assert train(steps=50).warmup_steps == 5
    assert train(steps=5).warmup_steps == 0
    assert train(steps=50, warmup_steps=9).warmup_steps == 9


def test_sequence_longer_than_the_context_is_refused(tiny_data: Path, tiny_preset: Path) -> None:
    request = Request(preset=str(tiny_preset), data=str(tiny_data), settings={"sequence_length": 65})
    with pytest.raises(UsageError, match="sequence_length 65 is longer than the model's context of 64") as raised:
        resolve(request, tiny_data)
    assert raised.value.hint == "--sequence-length 64"
    assert resolve(Request(preset=str(tiny_preset), data=str(tiny_data)), tiny_data).train.sequence_length == 64


@pytest.mark.parametrize(
    ("name", "hint"), [("nanoo", "did you mean nano?"), ("90M", "did you mean 90m?"), ("x", "one of")]
)
def test_unknown_preset_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f'unknown preset "{name}"') as raised:
        Request(preset=name)
    assert raised.value.hint.startswith(hint)


def test_the_same_number_of_sequences_at_once_is_no_change_where_a_batch_has_fewer() -> None:
    assert changed(RECORDED, {"micro_batch_size": 64}, resumes=False) == (RECORDED, ())


def test_a_run_that_goes_on_may_be_told_what_it_says_of_itself_already(tiny_data: Path, tiny_preset: Path) -> None:
    own: dict[str, Any] = {"learning_rate": 2e-2, "min_learning_rate": 5e-3, "steps": 9000, "warmup_steps": 6000}
    run = resolve(Request(preset=str(tiny_preset), data=str(tiny_data), settings=own), tiny_data).train
    for name, value in dataclasses.asdict(run).items():
        request = Request(resumes=True, settings={name: value})
        assert changed(run, request.settings, resumes=True) == (run, ())


@pytest.mark.parametrize(
    "settings", [{"stepz": 3}, {"steps": 0}, {"seed": "one"}, {"beta1": 1.0}, {"max_time": "soon"}, {"keep": True}]
)
def test_wrong_setting_of_a_run_that_goes_on_is_refused_before_any_work(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(UsageError, match=name.replace("_", ".")):
        Request(resumes=True, settings=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepz": 3}, 'unknown setting "stepz"'),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"steps": "ten"}, "--steps must be of type int"),
        ({"optimizer": "sgd"}, '--optimizer "sgd" is unknown'),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number"),
        ({"learning_rate": 0.1, "min_learning_rate": 0.2}, "--min-learning-rate 0.2 is above --learning-rate 0.1"),
    ],
)
def test_wrong_setting_is_refused_before_any_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Request(preset="nano", settings=settings)


def test_run_folder_is_named_after_preset_and_data(tiny_preset: Path) -> None:
    assert Request().folder == Path("runs/15m-TinyStories")
    assert Request(preset=str(tiny_preset), data="texts/animals.jsonl").folder == Path("runs/tiny-animals")
    assert Request(preset="nano", data="sample", out=Path("x")).folder == Path("x")


@pytest.fixture
def initial_model(tiny_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "initial"
    folder.mkdir()
    save_model(make_model(), Tokenizer.load(tiny_data), folder)
    return folder


def test_initial_model_brings_its_own_shape(initial_model: Path, tiny_data: Path) -> None:
    config = resolve(Request(init=initial_model, data=str(tiny_data)), tiny_data)
    assert config.model == MODEL
    assert (config.preset, config.init) == ("initial", str(initial_model))
    assert config.train.sequence_length == 64
    with pytest.raises(UsageError, match="--init brings its own model"):
        Request(init=initial_model, preset="nano")


@pytest.mark.parametrize(
    ("model", "here", "init", "name"),
    [
        ("initial", "initial", ".", "initial"),
        ("initial", "initial/below", "..", "initial"),
        ("run/checkpoints/step-00000006", "run/checkpoints/step-00000006", ".", "run"),
        ("run/checkpoints/step-00000006", "run/checkpoints", "step-00000006", "run"),
        ("run/checkpoints/step-00000006", "run", "checkpoints/step-00000006", "run"),
        ("run/checkpoints/step-00000006", "run/checkpoints", "../checkpoints/step-00000006", "run"),
        ("models--user--gemma/snapshots/abcdef", "models--user--gemma/snapshots/abcdef", ".", "gemma"),
        ("checkpoints/one", "checkpoints/one", ".", "home"),
    ],
)
def test_a_run_that_begins_with_a_model_named_from_nearby_reads_its_own_config(
    model: str, here: str, init: str, name: str, initial_model: Path, tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home = tmp_path / "home"
    home.joinpath(model).parent.mkdir(parents=True)
    initial_model.rename(home / model)
    home.joinpath(here).mkdir(exist_ok=True)
    monkeypatch.chdir(home / here)
    request = Request(init=Path(init), data=str(tiny_data))
    config = resolve(request, tiny_data)
    assert (config.preset, request.folder.name) == (name, f"{name}-{tiny_data.name}")
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    request.refuse_another_model(config)


def test_a_link_to_a_model_keeps_its_own_name(initial_model: Path, tmp_path: Path) -> None:
    (tmp_path / "gemma").symlink_to(initial_model)
    assert Request(init=tmp_path / "gemma").base.name == "gemma"


def test_initial_model_with_another_tokenizer_is_refused(initial_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    text = prepare_data(tmp_path / "other", documents=9).with_suffix(".jsonl")
    prepare(str(text), tmp_path / "turns", PrepareConfig(tokenizer="bytes", turn_tokens=True))
    with pytest.raises(CheckpointError, match="prepared with another tokenizer") as raised:
        resolve(Request(init=initial_model, data=str(tmp_path / "turns")), tmp_path / "turns")
    assert raised.value.hint == f"gemmazero prepare … --tokenizer {initial_model}"


def test_warm_up_that_never_ends_is_refused() -> None:
    with pytest.raises(UsageError, match="--warmup-steps 10 is not below --steps 10"):
        TrainConfig(steps=10, warmup_steps=10)
