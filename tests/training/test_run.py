import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gemmazero.config import ModelConfig, PrepareConfig
from gemmazero.data.prepare import Prepared, prepare
from gemmazero.data.shards import TokenShards
from gemmazero.errors import CheckpointError, DataError, GemmaZeroError, TrainingError, UsageError
from gemmazero.evaluation.perplexity import evaluate
from gemmazero.lock import locked
from gemmazero.storage.checkpoint import Checkpoint, list_checkpoints
from gemmazero.storage.locate import best_checkpoint
from gemmazero.storage.model_folder import load_model
from gemmazero.training.events import Event, Finished, Resumed, Saved, Started, Stepped, Stopped, Validated
from gemmazero.training.settings import Request
from tiny_run import MODEL, SETTINGS, prepare_data, train, write_text


def of_kind(events: list[Any], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def request_of(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> Any:
    """A tiny run in ``tmp_path / "run"``; settings may be changed."""

    def make(data: Path = tiny_data, **settings: Any) -> Request:
        return Request(out=tmp_path / "run", preset=str(tiny_preset), data=str(data), settings=SETTINGS | settings)

    return make


@pytest.fixture(scope="session")
def finished(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run of eight steps, and its events."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    settings = SETTINGS | {"steps": 8, "validate_every": 4}
    return folder, train(Request(out=folder, preset=str(tiny_preset), data=str(tiny_data), settings=settings))


def test_run_tells_its_facts_in_order(finished: tuple[Path, list[Any]]) -> None:
    folder, events = finished
    started, *_, last = events
    assert " ".join(f"{type(event).__name__.lower()}{event.step}" for event in events) == (
        "started0 stepped1 stepped2 saved2 stepped3 stepped4 validated4 saved4 stepped5 stepped6 saved6 stepped7 "
        "stepped8 validated8 saved8 finished8"
    )
    assert isinstance(started, Started)
    assert (started.run, started.steps, started.tokens_per_step) == (folder, 8, 64)
    assert (started.device, started.precision) == ("cpu", "fp32")
    assert started.parameters == sum(
        weight.numel() for weight in load_model(best_checkpoint(folder), device="cpu", dtype=torch.float32).parameters()
    )
    assert isinstance(last, Finished)


def test_run_folder_is_that_of_the_contract(finished: tuple[Path, list[Any]]) -> None:
    folder, events = finished
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "metrics.jsonl", "loss_plot.png", "best.json", "checkpoints",
    }  # fmt: skip
    assert [path.name for path in list_checkpoints(folder / "checkpoints")] == ["step-00000006", "step-00000008"]
    record = json.loads((folder / "run.json").read_text())
    assert not [name for name, value in record["train"].items() if value == "auto" or (name == "threads" and not value)]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__.lower() for event in events]
    for path in list_checkpoints(folder / "checkpoints"):
        checkpoint = Checkpoint.open(path)
        checkpoint.verify()
        assert checkpoint.run_id == record["run_id"] == events[0].run_id


def test_best_names_the_checkpoint_with_the_lowest_validation_loss(finished: tuple[Path, list[Any]]) -> None:
    folder, events = finished
    lowest = min(of_kind(events, Validated), key=lambda validated: validated.loss)
    best = json.loads((folder / "best.json").read_text())
    assert best == {
        "checkpoint": f"step-{lowest.step:08d}", "step": lowest.step, "validation_loss": lowest.loss,
    }  # fmt: skip
    assert events[-1].best_step == lowest.step


def test_last_validation_covers_the_whole_split_and_is_evaluations_own(
    finished: tuple[Path, list[Any]], tiny_data: Path
) -> None:
    folder, events = finished
    shards = TokenShards(tiny_data, "validation")
    newest = list_checkpoints(folder / "checkpoints")[-1]
    model = load_model(newest, device="cpu", dtype=torch.float32)
    assert events[-1].validation_loss == evaluate(model, shards, sequence_length=16).loss
    for validated in of_kind(events, Validated):
        assert not validated.whole
        assert 48 < validated.tokens <= 64 < len(shards) - 1, "the four windows that validation_tokens asks for"


def test_best_checkpoint_outlives_newer_ones(request_of: Any) -> None:
    """A learning rate that ruins the model right after its first validation."""
    request = request_of(steps=9, learning_rate=3.0, warmup_steps=8, validate_every=1, save_every=1, keep=1)
    events = train(request)
    best = of_kind(events, Finished)[0].best_step
    assert 0 < best < 9, "or the test tests nothing"
    names = [path.name for path in list_checkpoints(request.folder / "checkpoints")]
    assert names == [f"step-{best:08d}", "step-00000009"]
    assert best_checkpoint(request.folder).name == names[0]


@pytest.mark.parametrize("validation_tokens", [0, 10_000])
def test_whole_split_is_validated_where_it_is_asked_for_or_small(request_of: Any, validation_tokens: int) -> None:
    events = train(request_of(validation_tokens=validation_tokens))
    assert [validated.whole for validated in of_kind(events, Validated)] == [True, True]
    assert events[-1].validation_loss == of_kind(events, Validated)[-1].loss


def test_run_without_validation_text_finishes_without_a_best(request_of: Any, tmp_path: Path) -> None:
    request = request_of(prepare_data(tmp_path / "all", documents=30, validation_fraction=0.0))
    events = train(request)
    assert of_kind(events, Validated) == []
    assert (events[-1].validation_loss, events[-1].best_step) == (None, None)
    assert not (request.folder / "best.json").exists()
    assert best_checkpoint(request.folder).name == "step-00000006"


def test_wish_to_stop_saves_and_the_run_goes_on(request_of: Any) -> None:
    events = train(request_of(), stop_after=1)
    assert [type(event) for event in events] == [Started, Stepped, Saved, Stopped]
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    assert (stopped.step, stopped.reason, stopped.best_step) == (1, "a wish", None)
    assert stopped.loss == of_kind(events, Stepped)[-1].loss
    events = train(request_of())
    assert isinstance(events[0], Resumed)
    assert [event.step for event in of_kind(events, Stepped)] == [2, 3, 4, 5, 6]


def test_run_without_a_checkpoint_goes_on_where_it_is_resumed_and_may_begin_anew(request_of: Any) -> None:
    assert [type(event) for event in train(request_of(), stop_after=0)] == [Started, Stopped]
    resumed = train(Request(out=request_of().folder, resumes=True), stop_after=0)
    assert [type(event) for event in resumed] == [Resumed, Stopped]
    events = train(request_of(batch_size=2, micro_batch_size=2))
    assert (type(events[0]), events[0].tokens_per_step) == (Started, 32)
    assert isinstance(events[-1], Finished)


def test_second_process_in_a_run_folder_is_refused_and_changes_nothing(request_of: Any) -> None:
    train(request_of(), stop_after=2)
    folder = request_of().folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with locked(folder / ".lock", folder), pytest.raises(GemmaZeroError, match=f"is in use by process {os.getpid()}"):
        train(request_of())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert isinstance(train(request_of())[-1], Finished)


def test_another_model_of_the_same_name_is_another_run(request_of: Any, tmp_path: Path) -> None:
    train(request_of(), stop_after=2)
    (tmp_path / "elsewhere").mkdir()
    wider = tmp_path / "elsewhere" / Path(request_of().preset).name
    wider.write_text(json.dumps(replace(MODEL, intermediate_size=64).to_json()))
    with pytest.raises(UsageError, match="began with another model"):
        train(replace(request_of(), preset=str(wider)))
    train(request_of())
    with pytest.raises(UsageError, match="began with another model"):
        train(replace(request_of(), preset=str(wider)))


def test_finished_run_says_so_without_its_data(request_of: Any, tmp_path: Path) -> None:
    data = prepare_data(tmp_path / "own", documents=80)
    last = train(request_of(data))[-1]
    shutil.rmtree(data)
    assert train(request_of(data)) == train(Request(out=request_of().folder, resumes=True)) == [last]


def test_finished_run_says_so_at_once_and_stays_as_it_is(finished: tuple[Path, list[Any]]) -> None:
    folder, events = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train(Request(out=folder)) == [events[-1]]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_equivalent_settings_given_anew_are_told_and_recorded(request_of: Any) -> None:
    train(request_of(), stop_after=1)
    events = train(request_of(micro_batch_size=2, keep=5), stop_after=2)
    assert events[0].changed == ("micro_batch_size: 4 → 2",)
    record = json.loads((request_of().folder / "run.json").read_text())["train"]
    assert (record["micro_batch_size"], record["keep"]) == (2, 5)


def test_other_settings_preset_or_data_are_refused(request_of: Any, tmp_path: Path) -> None:
    train(request_of(), stop_after=1)
    before = {path: path.read_bytes() for path in request_of().folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"learning_rate was 0\.01 .* cannot become 0\.5"):
        train(request_of(learning_rate=0.5))
    with pytest.raises(UsageError, match='began with another model than "nano"'):
        train(replace(request_of(), preset="nano"))
    other = prepare_data(tmp_path / "other", documents=80, seed=9)
    with pytest.raises(DataError, match="does not hold the data that the run began with"):
        train(request_of(other))
    assert {path: path.read_bytes() for path in request_of().folder.rglob("*") if path.is_file()} == before


def test_data_that_moved_is_found_where_it_is_said_to_be(request_of: Any, tiny_data: Path, tmp_path: Path) -> None:
    first = shutil.copytree(tiny_data, tmp_path / "first")
    train(request_of(first), stop_after=1)
    second = first.rename(tmp_path / "second")
    train(Request(out=tmp_path / "run", data=str(second)), stop_after=2)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["folder"] == str(second)
    assert isinstance(train(Request(out=tmp_path / "run"))[-1], Finished)


@pytest.mark.parametrize("where", [[], ["checkpoints"]])
def test_folder_that_is_no_run_is_left_alone(request_of: Any, where: list[str]) -> None:
    file = request_of().folder.joinpath(*where, "mine.txt")
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="exists and is not a run folder"):
        train(request_of())
    assert [path for path in request_of().folder.rglob("*") if path.is_file()] == [file]
    shutil.rmtree(request_of().folder)
    request_of().folder.write_text("a file")
    with pytest.raises(CheckpointError, match="exists and is not a run folder"):
        train(request_of())


def test_error_before_the_start_leaves_no_folder(request_of: Any) -> None:
    with pytest.raises(UsageError, match="longer than the model's context"):
        train(request_of(sequence_length=65))
    (small := request_of().folder.with_name("small.jsonl")).write_text('{"text": "ox"}\n')
    with pytest.raises(DataError, match="less than one window"):
        train(request_of(prepare_data(small.with_suffix(""), documents=1, validation_fraction=0.0), sequence_length=60))
    assert not request_of().folder.exists()


def test_local_text_is_prepared_again_where_the_data_is_gone_and_the_text_is_named(
    request_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data = prepare_data(Path("data/animals"), documents=40)
    text = Path("data/animals.jsonl").rename("animals.jsonl")
    train(request_of(data), stop_after=1)
    shutil.rmtree(data)
    with pytest.raises(DataError, match='data/animals" is gone') as raised:
        train(Request(out=tmp_path / "run"))
    assert "animals.jsonl" in raised.value.hint
    events = train(Request(out=tmp_path / "run", data=str(text)), stop_after=2)
    assert [type(event) for event in events if isinstance(event, Prepared | Resumed | Stepped)] == [
        Prepared, Resumed, Stepped,
    ]  # fmt: skip
    assert events[-1].step == 2
    shutil.rmtree(data)
    write_text(text, documents=41)
    with pytest.raises(DataError, match="does not hold the data that the run began with"):
        train(Request(out=tmp_path / "run", data=str(text)))


def test_sample_is_prepared_again_where_it_is_gone(request_of: Any, tmp_path: Path) -> None:
    options = PrepareConfig(tokenizer="bytes", max_documents=40)
    prepare("sample", tmp_path / "stories", options)
    train(request_of(tmp_path / "stories"), stop_after=1)
    shutil.rmtree(tmp_path / "stories")
    events = train(Request(out=tmp_path / "run"), stop_after=2)
    assert (type(events[-1]), events[-1].step) == (Stopped, 2)


def test_run_begins_with_the_weights_of_its_initial_model(
    finished: tuple[Path, list[Any]], tiny_data: Path, tmp_path: Path
) -> None:
    initial = best_checkpoint(finished[0])
    request = Request(
        out=tmp_path / "run", init=initial, data=str(tiny_data), settings=SETTINGS | {"learning_rate": 0.0}
    )
    train(request, stop_after=2)
    (checkpoint,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert (checkpoint / "model.safetensors").read_bytes() == (initial / "model.safetensors").read_bytes()


def test_seed_decides_the_run(request_of: Any, tiny_preset: Path, tiny_data: Path, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[float]:
        settings = SETTINGS | {"seed": seed}
        request = Request(out=tmp_path / name, preset=str(tiny_preset), data=str(tiny_data), settings=settings)
        return [event.loss for event in of_kind(train(request, stop_after=2), Stepped)]

    assert losses("a", 1) == losses("b", 1) != losses("c", 2)


def test_untrained_model_knows_nothing(request_of: Any) -> None:
    (step,) = of_kind(train(request_of(), stop_after=1), Stepped)
    assert step.loss == pytest.approx(math.log(257), abs=0.2)


def test_run_that_breaks_keeps_its_last_checkpoint(request_of: Any) -> None:
    request = request_of(learning_rate=1e30, warmup_steps=0, clip_norm=0.0)
    with pytest.raises((TrainingError, OverflowError)) as raised:
        train(request)
    assert raised.type is TrainingError
    for path in list_checkpoints(request.folder / "checkpoints"):
        Checkpoint.open(path).verify()


def test_any_shape_of_config_file_trains(tiny_data: Path, tmp_path: Path) -> None:
    shape: ModelConfig = replace(
        MODEL, model_type="gemma2", attn_logit_softcapping=20.0, num_key_value_heads=2, tie_word_embeddings=False
    )
    (tmp_path / "odd.json").write_text(json.dumps(shape.to_json()))
    request = Request(out=tmp_path / "run", preset=str(tmp_path / "odd.json"), data=str(tiny_data), settings=SETTINGS)
    assert isinstance(train(request)[-1], Finished)
    assert ModelConfig.read(best_checkpoint(tmp_path / "run") / "config.json").model_type == "gemma2"


def test_killed_retention_and_saving_are_cleared_up(request_of: Any) -> None:
    train(request_of(), stop_after=3)
    checkpoints = request_of().folder / "checkpoints"
    (checkpoints / "step-00000002").rename(checkpoints / ".step-00000002.writing")
    (checkpoints / ".step-00000004.writing").mkdir()
    train(request_of())
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000004", "step-00000006"]


def test_best_is_named_again_where_a_kill_came_before_it_was(request_of: Any) -> None:
    request = request_of(steps=6, validate_every=3)
    train(request)
    best = request.folder / "best.json"
    named = best.read_bytes()
    best.unlink()
    (request.folder / "metrics.jsonl").unlink()  # or the run would be known to be finished
    train(request)
    assert best.read_bytes() == named


@pytest.mark.parametrize("harm", ["removed", "a dangling link"])
def test_run_whose_checkpoints_are_gone_is_refused_and_stays_as_it_is(harm: str, request_of: Any) -> None:
    train(request_of(), stop_after=3)
    checkpoints = request_of().folder / "checkpoints"
    shutil.rmtree(checkpoints)
    if harm == "a dangling link":
        checkpoints.symlink_to("unmounted")
    before = {path: path.read_bytes() for path in request_of().folder.rglob("*") if path.is_file()}
    for request in (request_of(), request_of(learning_rate=0.5), Request(out=request_of().folder, resumes=True)):
        with pytest.raises(CheckpointError, match="are gone"):
            train(request)
    assert {path: path.read_bytes() for path in request_of().folder.rglob("*") if path.is_file()} == before


def test_what_a_kill_left_of_the_first_run_json_is_nobody_else_s_folder(request_of: Any) -> None:
    folder = request_of().folder
    folder.mkdir()
    (folder / ".run.json.writing").write_text("{")
    (folder / ".lock").write_text("123\n")
    assert isinstance(train(request_of())[-1], Finished)
    (folder / ".lock").write_text("123\n")
    train(request_of())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
