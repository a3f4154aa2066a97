import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import short_of_memory
from gemmazero.config import TrainConfig
from gemmazero.training import fitting
from gemmazero.training.fitting import choose_micro_batch_size, divisors, largest_fitting
from gemmazero.training.memory import memory_model
from gemmazero.training.settings import Request
from tiny_run import MODEL, SETTINGS, make_trainer, prepare_data, step, train

MEGABYTES = "800"
CPU = torch.device("cpu")
TINY = TrainConfig(**SETTINGS | {"batch_size": 24, "micro_batch_size": "auto"})


def limited(*arguments: object) -> list[str]:
    """What a run prints whose process may take little more memory."""
    command = [sys.executable, short_of_memory.__file__, MEGABYTES, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_divisors_are_all_that_divide() -> None:
    assert [divisors(number) for number in (1, 7, 12, 16)] == [[1], [7, 1], [12, 6, 4, 3, 2, 1], [16, 8, 4, 2, 1]]


def test_what_is_given_is_taken_and_auto_takes_a_divisor_of_as_many_tokens_as_help() -> None:
    assert choose_micro_batch_size(MODEL, replace(TINY, micro_batch_size=5)) == 5
    assert choose_micro_batch_size(MODEL, TINY) == 24
    many = replace(TINY, batch_size=600)  # 256 sequences of 16 are 4096 tokens
    assert choose_micro_batch_size(MODEL, many) == 200
    assert choose_micro_batch_size(MODEL, replace(TINY, sequence_length=5000)) == 1


def test_the_largest_that_fits_in_the_free_memory_is_taken() -> None:
    takes, sizes = memory_model(MODEL, TINY, CPU), divisors(24)
    totals = [takes.memory(TINY, size).total for size in sizes]
    assert totals == sorted(totals, reverse=True)
    for size, total in zip(sizes, totals, strict=True):
        assert largest_fitting(sizes, MODEL, TINY, int(total / fitting.SHARE) + 1) == size
    assert largest_fitting(sizes, MODEL, TINY, int(totals[-1] / fitting.SHARE) - 1) is None
    assert largest_fitting(sizes, MODEL, TINY, None) == 24


def test_auto_changes_no_batch(tiny_data: Path) -> None:
    def read(micro_batch_size: int) -> list[list[list[int]]]:
        trainer, steps = make_trainer(tiny_data, micro_batch_size=micro_batch_size), []
        for _ in range(3):
            seen: list[torch.Tensor] = []
            with trainer.model.model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0])):
                step(trainer)
            steps.append(torch.cat(seen).tolist())
        return steps

    chosen = choose_micro_batch_size(MODEL, TrainConfig(**SETTINGS | {"micro_batch_size": "auto"}))
    assert chosen == SETTINGS["batch_size"]
    assert read(chosen) == read(1) == read(2)


def test_auto_is_recorded_and_stays_what_it_was(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> None:
    def recorded(out: Path, micro_batch_size: int | str, *, resumes: bool = False) -> int:
        settings = {"micro_batch_size": micro_batch_size}
        if not resumes:
            settings = SETTINGS | settings
        request = Request(
            preset=None if resumes else str(tiny_preset), data=None if resumes else str(tiny_data), out=out,
            settings=settings, resumes=resumes,
        )  # fmt: skip
        begun = train(request, stop_after=2)[0]
        assert getattr(begun, "changed", ()) == ()
        size: int = json.loads((out / "run.json").read_text())["train"]["micro_batch_size"]
        return size

    assert recorded(tmp_path / "chosen", "auto") == 4
    assert recorded(tmp_path / "given", 2) == 2
    assert recorded(tmp_path / "given", "auto", resumes=True) == 2


@pytest.mark.slow
def test_refused_memory_is_told_with_a_smaller_setting_and_that_one_fits(tmp_path: Path) -> None:
    data, preset = prepare_data(tmp_path / "animals", documents=800), tmp_path / "tiny.json"
    preset.write_text(json.dumps(replace(MODEL, max_position_embeddings=512).to_json()))
    message, hint = limited(preset, data, tmp_path / "first", "micro_batch_size=64")
    assert message == "not enough memory for micro-batches of 64 × 512 tokens"
    command, size = hint.rsplit(" ", 1)
    assert command == f"gemmazero resume {tmp_path / 'first'} --micro-batch-size"
    assert limited(preset, data, tmp_path / "second", f"micro_batch_size={size}") == ["2"]
