import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from gemmazero import api
from gemmazero.cli.app import app
from gemmazero.cli.evaluate import watched
from gemmazero.errors import CheckpointError
from gemmazero.evaluation.perplexity import Evaluation


@pytest.mark.parametrize("split", ["train", "validation"])
def test_json_is_what_the_library_finds(story_model: Path, data_folder: Path, split: str) -> None:
    command = ["eval", str(story_model), "--data", str(data_folder), "--split", split, "--json"]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    assert set(found) == {"loss", "perplexity", "bits_per_byte", "accuracy", "tokens", "split"}
    assert found == asdict(api.evaluate(story_model, data_folder, split=split))


def test_closed_output_is_no_bug(story_model: Path, data_folder: Path) -> None:
    program = [sys.executable, "-m", "gemmazero", "eval", str(story_model), "--data", str(data_folder)]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *program], stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_model_of_no_numbers_is_told_and_gives_no_json(story_model: Path, data_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(story_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors")
    result = CliRunner().invoke(app, ["eval", str(broken), "--data", str(data_folder), "--json"])
    assert isinstance(result.exception, CheckpointError)
    assert result.stdout == ""


def test_table_names_the_units(story_model: Path, data_folder: Path) -> None:
    text = CliRunner().invoke(app, ["eval", str(story_model), "--data", str(data_folder)]).stdout
    for part in ("nats a token", "bits per byte", "of next tokens", "the whole validation split"):
        assert part in text


def test_progress_is_a_line_each_time_the_tokens_double(capsys: pytest.CaptureFixture[str]) -> None:
    def evaluations() -> Iterator[Evaluation]:
        for count in range(1, 10):
            yield Evaluation(
                loss=2.0, perplexity=7.4, bits_per_byte=1.0, accuracy=0.5, tokens=count * 50_000, split="train"
            )

    assert watched(evaluations()).tokens == 450_000
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(" tokens")[0] for line in captured.err.splitlines()] == ["100,000", "200,000", "400,000"]
