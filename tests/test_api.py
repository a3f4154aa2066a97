import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gemmazero
from gemmazero.errors import CheckpointError, DataError, GemmaZeroError, UsageError
from gemmazero.storage.checkpoint import Checkpoint, list_checkpoints
from gemmazero.training.events import Finished, Saved, Stepped, Stopped
from gemmazero.training.record import Record
from tiny_run import SETTINGS, write_text

Train = Callable[..., gemmazero.Training]


@pytest.fixture
def train(tiny_data: Path, tiny_preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """A tiny run called ``name`` under the ``runs`` of an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def make(name: str = "a", **settings: Any) -> gemmazero.Training:
        return gemmazero.train(preset=str(tiny_preset), data=tiny_data, out=f"runs/{name}", **SETTINGS | settings)

    return make


def saved_steps(training: gemmazero.Training) -> list[int]:
    checkpoints = [Checkpoint.open(path) for path in list_checkpoints(training.folder / "checkpoints")]
    for checkpoint in checkpoints:
        checkpoint.verify()
    return [checkpoint.step for checkpoint in checkpoints]


def final_files(training: gemmazero.Training) -> dict[str, bytes]:
    newest = list_checkpoints(training.folder / "checkpoints")[-1]
    return {path.name: path.read_bytes() for path in newest.rglob("*.*") if path.name != "checkpoint.json"}


def python(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "100"})


def test_importing_the_package_imports_no_torch() -> None:
    program = "import gemmazero, sys; gemmazero.__version__, gemmazero.GemmaZeroError; print('torch' in sys.modules)"
    assert python(program).stdout == "False\n"


def test_public_names_are_there_and_others_are_not() -> None:
    assert all(getattr(gemmazero, name) is not None for name in gemmazero.__all__)
    assert gemmazero.GemmaZeroError is GemmaZeroError
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = gemmazero.trian


def test_prepare_gives_its_report(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.jsonl", documents=20)
    report = gemmazero.prepare(str(text), tmp_path / "data", tokenizer="bytes")
    assert report.folder == tmp_path / "data"
    assert report.manifest.vocab_size == 257
    assert not report.reused
    assert gemmazero.prepare(str(text), tmp_path / "data", tokenizer="bytes").reused


def test_nothing_has_run_until_it_is_iterated(train: Train, tmp_path: Path) -> None:
    training = train()
    assert list(tmp_path.iterdir()) == []
    next(iter(training))
    assert training.folder.is_dir()


def test_wrong_setting_is_refused_before_anything_has_run(train: Train, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting"):
        train(stepz=3)
    assert list(tmp_path.iterdir()) == []


def test_leaving_the_loop_early_saves(train: Train) -> None:
    training = train(save_every=100)
    for event in training:
        if isinstance(event, Stepped) and event.step == 5:
            break
    assert 5 in saved_steps(training)
    assert [event.step for event in training if isinstance(event, Stepped)] == [6]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_loop_that_is_left_by_an_exception_saves(error: type[BaseException], train: Train) -> None:
    training = train(save_every=100)

    def follow() -> None:
        for event in training:
            if event.step == 2:
                raise error

    with pytest.raises(error):
        follow()
    assert saved_steps(training) == [2]


def test_program_that_dies_of_ctrl_c_in_its_own_loop_saves(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    program = (
        "import sys, gemmazero\n"
        "training = gemmazero.train(preset=sys.argv[1], data=sys.argv[2], out=sys.argv[3],\n"
        "    steps=6, batch_size=4, sequence_length=16, save_every=100, precision='fp32', threads=1)\n"
        "for event in training:\n"
        "    if event.step == 2:\n"
        "        raise KeyboardInterrupt\n"
    )
    ended = python(program, tiny_preset, tiny_data, tmp_path / "run")
    assert ended.returncode != 0
    assert saved_steps(gemmazero.resume(tmp_path / "run")) == [2], ended.stderr


def interrupt(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Ctrl-C while ``owner.name`` is called for the ``call``-th time."""
    real, calls = getattr(owner, name), iter(range(1, call + 1))

    def method(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) == call:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, method)


@pytest.mark.parametrize(
    ("owner", "name", "call", "saved"),
    [
        (torch.Tensor, "backward", 6, [5]),  # the weights are those of step 5
        (torch.optim.AdamW, "step", 6, []),  # the weights may be torn
        (Record, "write", 6, [5]),  # step 5 is done, and nobody was told
        (Record, "draw", 1, [6]),  # the validation after the last step is told, its plot is not drawn
    ],
)
def test_ctrl_c_within_a_step_saves_the_last_step_whose_weights_are_whole(
    owner: Any, name: str, call: int, saved: list[int], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train("straight", save_every=100, validate_every=100)
    straight.run()
    training = train(save_every=100, validate_every=100)
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            training.run()
    assert saved_steps(training) == saved
    training.run()
    assert final_files(training) == final_files(straight)


def test_run_goes_to_the_end_and_a_finished_run_only_says_so(train: Train) -> None:
    finished = train().run()
    assert isinstance(finished, Finished)
    assert finished.step == 6
    before = {path: path.stat().st_mtime_ns for path in Path("runs/a/checkpoints").rglob("*")}
    assert list(train()) == list(gemmazero.resume("runs/a")) == [finished]
    assert train().run() == finished
    assert {path: path.stat().st_mtime_ns for path in Path("runs/a/checkpoints").rglob("*")} == before


def test_stop_ends_the_run_after_the_current_step_and_saves(train: Train) -> None:
    training = train()
    events = []
    for event in training:
        events.append(event)
        if isinstance(event, Stepped):
            training.stop("enough")
            training.stop("a later reason")
    assert isinstance(events[-2], Saved)
    assert isinstance(events[-1], Stopped)
    assert (events[-1].step, events[-1].reason) == (1, "enough")


def test_resume_goes_on_with_the_newest_run(train: Train) -> None:
    for name in ("a", "b"):
        for event in train(name):
            if event.step == 1:
                break
    assert gemmazero.resume().folder == Path("runs/b")
    assert isinstance(gemmazero.resume().run(), Finished)
    assert gemmazero.resume("runs/a").folder == Path("runs/a")


def test_empty_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in (gemmazero.load, gemmazero.resume, gemmazero.evaluate):
        with pytest.raises(CheckpointError) as raised:
            ask()
        assert raised.value.hint == "gemmazero train --preset nano --data sample"
    with pytest.raises(CheckpointError, match='"here" is not a run folder'):
        gemmazero.resume("here")


def test_trained_model_is_loaded_read_written_and_evaluated(train: Train, tiny_data: Path) -> None:
    finished = train().run()
    assert isinstance(finished, Finished)
    assert finished.best_step == 6, "or the best is not the last"
    model = gemmazero.load()
    assert model.folder == Path("runs/a/checkpoints/step-00000006")
    ids = torch.tensor([model.tokenizer.encode("a fox ran"), model.tokenizer.encode("the owl s")])
    logits = model.logits(ids)
    assert (logits.shape, logits.dtype, logits.requires_grad) == ((2, 9, 257), torch.float32, False)
    assert torch.equal(logits, gemmazero.load("runs/a").logits(ids))
    assert model.tokenizer.decode(ids[0].tolist()) == "a fox ran"
    evaluation = gemmazero.evaluate()
    assert evaluation.loss == finished.validation_loss, "over the same windows, by the same function"
    assert evaluation == gemmazero.evaluate(model, tiny_data) == gemmazero.evaluate("runs/a", str(tiny_data))
    assert gemmazero.evaluate(model, split="train").split == "train"
    text = model.generate("a fox", max_tokens=12, temperature=0.8, seed=1)
    assert text == "".join(model.stream("a fox", max_tokens=12, temperature=0.8, seed=1))
    assert text != model.generate("a fox", max_tokens=12, temperature=0.8, seed=2)
    assert gemmazero.evaluate(model).loss == pytest.approx(evaluation.loss, rel=1e-6), "writing lays its weights anew"


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_model_is_loaded_in_the_dtype_that_is_asked_for(name: str, dtype: torch.dtype, train: Train) -> None:
    train(steps=1, warmup_steps=0).run()
    model = gemmazero.load(dtype=name)
    assert {weight.dtype for weight in model.gemma.parameters()} == {dtype}
    assert model.logits(torch.tensor([[1, 2, 3]])).dtype == torch.float32


def test_logits_are_a_tensor_like_any_other_without_a_gradient(train: Train) -> None:
    train(steps=1, warmup_steps=0).run()
    model, probe = gemmazero.load(), torch.nn.Linear(257, 2)
    logits = model.logits(torch.tensor([[1, 2, 3]]))
    logits[:, -1] /= 0.7
    probe(logits).sum().backward()
    torch.testing.assert_close(probe.weight.grad, logits.sum(dim=(0, 1)).expand(2, -1))
    assert all(weight.grad is None for weight in model.gemma.parameters())


def test_model_in_8_bits_reads_writes_and_is_evaluated(train: Train, tiny_data: Path) -> None:
    train().run()
    wide, narrow = gemmazero.load(), gemmazero.load(dtype="int8", device="cpu")
    ids = torch.tensor([wide.tokenizer.encode("a fox ran")])
    assert narrow.logits(ids).dtype == torch.float32
    assert 0 < (narrow.logits(ids) - wide.logits(ids)).abs().max() < 0.1
    assert narrow.generate("a fox", max_tokens=12, seed=1) == narrow.generate("a fox", max_tokens=12, seed=1)
    assert gemmazero.evaluate(narrow, tiny_data).loss == pytest.approx(gemmazero.evaluate(wide).loss, rel=0.01)


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match='--dtype "int4" is unknown'):
        gemmazero.load("x", dtype="int4")


def test_data_of_another_vocabulary_is_refused(train: Train, tmp_path: Path) -> None:
    train(steps=1, warmup_steps=0).run()
    text = write_text(tmp_path / "text.jsonl", documents=60)
    gemmazero.prepare(str(text), tmp_path / "other", tokenizer="bpe:280")
    with pytest.raises(DataError, match="another tokenizer than the model's"):
        gemmazero.evaluate("runs/a", tmp_path / "other")


def test_model_that_belongs_to_no_run_needs_to_be_told_its_data(train: Train, tiny_data: Path, tmp_path: Path) -> None:
    train(steps=1, warmup_steps=0).run()
    folder = Path("runs/a/checkpoints/step-00000001").rename(tmp_path / "model")
    with pytest.raises(DataError, match="belongs to no run"):
        gemmazero.evaluate(folder)
    assert gemmazero.evaluate(folder, tiny_data).tokens > 0


def test_training_begins_with_another_runs_weights(train: Train, tiny_data: Path) -> None:
    first = train().run()
    training = gemmazero.train(
        init="runs/a", data=tiny_data, out="runs/b", **SETTINGS | {"steps": 1, "warmup_steps": 0, "learning_rate": 0.0}
    )
    second = training.run()
    assert isinstance(first, Finished)
    assert isinstance(second, Finished)
    assert second.validation_loss == first.validation_loss
