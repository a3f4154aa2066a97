"""A run that streams: stopped or killed anywhere, it ends with the bits of the run that was never stopped."""

import json
import math
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gemmazero
from gemmazero.data import feed, stream
from gemmazero.data.batch import Batch
from gemmazero.data.shards import TokenShards
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import DataError, UsageError
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig
from gemmazero.training.data_folder import batches_of
from gemmazero.training.events import Finished, Resumed, RolledBack, Skipped, Stepped, Stopped, Waiting
from gemmazero.training.settings import Request
from gemmazero.training.streaming import stream_of
from outcome import differences, outcome
from tiny_run import SETTINGS, prepare_data, write_text

LONG = SETTINGS | {"steps": 20, "batch_size": 8, "validate_every": 6, "save_every": 2, "stream": True}
"""An epoch is a little more than eight of these steps."""

Train = Callable[..., gemmazero.Training]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven documents in a block: five and a half in an epoch."""
    monkeypatch.setattr(stream, "BLOCK_DOCUMENTS", 7)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "animals.jsonl", documents=40)


@pytest.fixture
def training(tmp_path: Path, text: Path, tiny_preset: Path) -> Train:
    def make(name: str = "run", **changes: Any) -> gemmazero.Training:
        given = {"data": text, "preset": str(tiny_preset), "tokenizer": "bytes"} | LONG | changes
        return gemmazero.train(out=tmp_path / name, **{key: value for key, value in given.items() if value is not None})

    return make


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    return {}


@pytest.fixture
def straight(training: Train, outcomes: dict[str, dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The outcome of the run that is never stopped; computed once."""

    def outcome_of(**changes: Any) -> dict[str, Any]:
        if str(changes) not in outcomes:
            assert isinstance(training("straight", **changes).run(), Finished)
            outcomes[str(changes)] = outcome(training("straight").folder)
        return outcomes[str(changes)]

    return outcome_of


def told_of(running: Iterator[Any]) -> Iterator[Any]:
    """What happens to the run itself, after its text was prepared."""
    return (event for event in running if hasattr(event, "step"))


def kill_after(training: gemmazero.Training, events: int) -> Any:
    """Leave the run folder as a kill after so many events would; returns the last one. A run that ends, ends."""
    left = training.folder.with_name("left")
    with closing(iter(training)) as running:  # type: ignore[type-var]
        last = list(islice(told_of(running), events))[-1]
        shutil.copytree(training.folder, left)
    if not isinstance(last, Finished):
        shutil.rmtree(training.folder)
        shutil.copytree(left, training.folder)
    shutil.rmtree(left)
    return last


def read_batches(run: Path, count: int) -> list[Batch]:
    config = RunConfig.from_json(read_json(run / "run.json"))
    source = stream_of(Request(out=run, resumes=True), config)
    with closing(batches_of(config, source).starting_at(0, None)) as passages:  # type: ignore[type-var]
        return [passage.batch for passage in islice(passages, count)]


def texts_of(ids: np.ndarray[Any, Any], tokenizer: Tokenizer) -> list[str]:
    """The whole documents in a row of ids."""
    return [
        tokenizer.decode(part[:-1].tolist()) for part in np.split(ids, np.flatnonzero(ids == tokenizer.end_id) + 1)[:-1]
    ]


@contextmanager
def bad_batches(batches: list[Batch], numbers: Collection[int]) -> Iterator[None]:
    """Within, these batches have no number for a loss."""
    bad = {batches[number].ids[:4].numpy().tobytes() for number in numbers}

    def poison(module: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        takes_ids = bool(arguments) and arguments[0].dtype == torch.int64
        return output * math.nan if takes_ids and arguments[0].numpy().tobytes() in bad else None

    handle = nn.modules.module.register_module_forward_hook(poison)
    try:
        yield
    finally:
        handle.remove()


def test_run_killed_five_times_over_two_epochs_ends_as_the_run_never_stopped(
    training: Train, straight: Callable[..., dict[str, Any]]
) -> None:
    expected = straight()
    for events in (8, 6, 7, 5, 9):
        assert not isinstance(kill_after(training(), events), Finished)
    assert isinstance(training().run(), Finished)
    assert differences(outcome(training().folder), expected) == []
    states = [json.loads(path.read_text()) for path in training().folder.glob("checkpoints/*/training/state.json")]
    assert max(state["bookmark"]["epoch"] for state in states) >= 2


@pytest.mark.parametrize(
    "settings",
    [{"mask_documents": True}, pytest.param({"precision": "bf16", "micro_batch_size": 3}, marks=pytest.mark.slow)],
    ids=str,
)
def test_run_left_again_and_again_ends_as_the_run_never_stopped(
    settings: dict[str, Any], training: Train, straight: Callable[..., dict[str, Any]]
) -> None:
    expected = straight(**settings)
    last: Any = None
    while not isinstance(last, Finished):
        with closing(iter(training(**settings))) as running:  # type: ignore[type-var]
            last = list(islice(told_of(running), 6))[-1]
    assert differences(outcome(training().folder), expected) == []


@pytest.mark.parametrize(
    "bad", [{7, 8, 9, 13}, pytest.param({0, 8, 9, 10, 15, 16, 17}, marks=pytest.mark.slow)], ids=str
)
def test_skips_and_ways_back_are_those_of_the_run_never_stopped(bad: set[int], training: Train) -> None:
    training("seen", steps=3).run()
    batches = read_batches(training("seen").folder, 40)
    with bad_batches(batches, bad):
        told = list(training("straight"))
        back = [event for event in told if isinstance(event, RolledBack)]
        skipped = [event.batch for event in told if isinstance(event, Skipped)]
        assert (skipped, len(back)) == (sorted(bad), len(bad) // 3)
        last: Any = None
        while not isinstance(last, Finished):
            last = kill_after(training(), 13)
    assert differences(outcome(training().folder), outcome(training("straight").folder)) == []
    incident = json.loads(next((training().folder / "incidents").glob(f"*-batch-{max(bad):08d}.json")).read_text())
    assert len(incident["documents"]) == 8
    assert all(part == 0 and 0 <= document < 40 for window in incident["documents"] for part, document in window)


def test_every_document_is_learned_from_in_each_epoch_but_those_of_the_validation_split(
    training: Train, text: Path
) -> None:
    training(steps=3).run()
    tokenizer = Tokenizer.load(training().folder / "stream" / "beginning")
    validation = TokenShards(training().folder / "stream" / "beginning", "validation")
    held_out = texts_of(validation.read(0, len(validation)), tokenizer)
    everything = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    learned = texts_of(
        torch.cat([batch.ids.flatten() for batch in read_batches(training().folder, 25)]).numpy(), tokenizer
    )
    size = len(everything) - len(held_out)
    assert 1 <= len(held_out) <= 10
    for epoch in (learned[:size], learned[size : 2 * size]):
        assert sorted([*epoch, *held_out]) == sorted(everything)


def test_own_validation_split_is_taken_and_its_copies_in_training_text_are_left_out(
    training: Train, tmp_path: Path
) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    write_text(folder / "train.jsonl", documents=30)
    copies = (folder / "train.jsonl").read_text().splitlines()[4:7]
    (folder / "validation.jsonl").write_text("\n".join([*copies, '{"text": "another"}']))
    training(data=folder, steps=3).run()
    beginning = training().folder / "stream" / "beginning"
    validation, tokenizer = TokenShards(beginning, "validation"), Tokenizer.load(beginning)
    held_out = [json.loads(line)["text"] for line in copies]
    assert texts_of(validation.read(0, len(validation)), tokenizer) == [*held_out, "another"]
    learned = texts_of(
        torch.cat([batch.ids.flatten() for batch in read_batches(training().folder, 12)]).numpy(), tokenizer
    )
    assert len(set(learned)) == 27
    assert not set(held_out) & set(learned)


@pytest.mark.parametrize("settings", [{}, {"mask_documents": True}], ids=str)
def test_evaluation_of_the_run_is_its_last_validation(settings: dict[str, Any], training: Train) -> None:
    finished = training(steps=3, **settings).run()
    evaluation = gemmazero.evaluate(training().folder / "checkpoints" / "step-00000003")
    assert evaluation.loss == finished.validation_loss


def test_validation_of_a_masked_run_is_masked(training: Train) -> None:
    masked, plain = (
        training("masked", steps=3, mask_documents=True, learning_rate=0.0),
        training("plain", steps=3, learning_rate=0.0),
    )
    losses = [run.run().validation_loss for run in (masked, plain)]
    assert losses[0] != losses[1]


def test_tokenizer_is_trained_on_the_first_documents(training: Train) -> None:
    training(steps=3, tokenizer="bpe:280").run()
    assert Tokenizer.load(training().folder / "stream" / "beginning").vocab_size == 280


@pytest.mark.slow
def test_sample_is_streamed_with_its_own_tokenizer(training: Train) -> None:
    training(data="sample", tokenizer=None, steps=3).run()
    assert Tokenizer.load(training().folder / "stream" / "beginning").vocab_size == 1024


def test_first_weights_bring_their_tokenizer(training: Train, tmp_path: Path) -> None:
    training("first", steps=3, turn_tokens=True).run()
    checkpoint = training("first").folder / "checkpoints" / "step-00000003"
    training("second", steps=3, preset=None, tokenizer=None, init=checkpoint).run()
    first, second = (Tokenizer.load(training(name).folder / "stream/beginning") for name in ("first", "second"))
    assert first.digest == second.digest


def test_beginning_that_is_gone_is_made_again(training: Train, straight: Callable[..., dict[str, Any]]) -> None:
    expected = straight()
    kill_after(training(), 12)
    shutil.rmtree(training().folder / "stream")
    training(stream=None, tokenizer=None).run()
    assert differences(outcome(training().folder), expected) == []


def test_run_and_text_may_move(
    training: Train, straight: Callable[..., dict[str, Any]], text: Path, tmp_path: Path
) -> None:
    expected = straight()
    kill_after(training(), 12)
    moved = training().folder.rename(tmp_path / "moved")
    text.rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(DataError, match="is gone") as raised:
        gemmazero.resume(moved).run()
    assert "--data" in raised.value.hint
    gemmazero.resume(moved, data=tmp_path / "elsewhere.jsonl").run()
    assert differences(outcome(moved), expected) == []


def test_command_that_names_a_tokenizer_by_a_relative_path_goes_on_as_it_stands(
    training: Train, tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_data, tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    kill_after(training(tokenizer="tokenizer"), 12)
    assert isinstance(next(iter(training(tokenizer="tokenizer"))), Resumed)


def test_other_text_is_refused(training: Train, text: Path) -> None:
    kill_after(training(), 12)
    text.write_text(text.read_text() + '{"text": "one more"}\n')
    with pytest.raises(DataError, match="is not the text that the run began with"):
        training().run()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokenizer": "gpt2"}, "tokenizer was bytes when the run began and cannot become gpt2"),
        ({"text_column": "story"}, "text_column was text"),
        ({"mask_documents": True}, "mask_documents was False"),
    ],
)
def test_what_decides_the_batches_stays(training: Train, change: dict[str, Any], told: str) -> None:
    kill_after(training(), 12)
    with pytest.raises(UsageError, match=told):
        training(**change).run()


def test_run_on_a_data_folder_cannot_become_a_stream(training: Train, tiny_data: Path) -> None:
    training(data=tiny_data, stream=None, tokenizer=None, steps=3).run()
    with pytest.raises(UsageError, match="stream was False"):
        training(data=tiny_data, tokenizer=None, steps=3).run()
    with pytest.raises(UsageError, match="tokenizer was bytes"):
        training(data=tiny_data, stream=None, tokenizer="gpt2", steps=3).run()


@pytest.mark.parametrize(
    ("source", "changes", "told"),
    [
        ("-", {}, "standard input cannot be read again"),
        ("DATA", {}, "is prepared already"),
        ("one.txt", {}, "no two documents"),
        ("animals.jsonl", {"stream": None}, "--tokenizer is for a source that is streamed"),
        ("animals.jsonl", {"text_column": "story"}, "story"),
        ("nothing.jsonl", {}, "no such file"),
    ],
)
def test_what_cannot_be_streamed_is_refused_and_leaves_nothing(
    source: str, changes: dict[str, Any], told: str, training: Train, tmp_path: Path, text: Path
) -> None:
    prepare_data(tmp_path / "DATA", documents=9)
    (tmp_path / "one.txt").write_text("Once upon a time")
    run = training(data=source if source == "-" else tmp_path / source, **changes)
    with pytest.raises((DataError, UsageError), match=told):
        run.run()
    assert not run.folder.exists()


@pytest.fixture
def little_is_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST_AHEAD", 1)


def test_text_that_is_away_for_a_while_is_waited_for(
    training: Train, straight: Callable[..., dict[str, Any]], text: Path, little_is_read_ahead: None
) -> None:
    """It is opened anew in each epoch; in the second it is not there at first."""
    expected = straight()
    hidden, waited = text.with_suffix(".hidden"), 0
    for event in training():
        if isinstance(event, Stepped) and event.step == 1:
            text.rename(hidden)
        if isinstance(event, Waiting):
            waited += 1
            assert 'cannot read "' in event.reason
            assert "tried again in" in event.reason
            if waited == 2:
                hidden.rename(text)
    assert waited >= 2
    assert differences(outcome(training().folder), expected) == []


def test_run_that_waits_can_be_stopped_and_goes_on(
    training: Train, straight: Callable[..., dict[str, Any]], text: Path, little_is_read_ahead: None
) -> None:
    expected = straight()
    hidden, run = text.with_suffix(".hidden"), training()
    for event in run:
        if isinstance(event, Stepped) and event.step == 1:
            text.rename(hidden)
        if isinstance(event, Waiting):
            run.stop("a wish")
    assert isinstance(event, Stopped)
    assert event.step > 5
    hidden.rename(text)
    training().run()
    assert differences(outcome(training().folder), expected) == []
