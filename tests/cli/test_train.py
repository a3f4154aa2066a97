import json
from pathlib import Path

from typer.testing import CliRunner

from gemmazero.cli.app import app
from gemmazero.presets import PRESETS


def test_command_line_wins_over_the_settings_file_and_the_file_over_the_preset(
    data_folder: Path, tmp_path: Path
) -> None:
    settings, run = tmp_path / "run.toml", tmp_path / "run"
    settings.write_text(
        f'preset = "nano"\ndata = "{data_folder}"\nout = "{tmp_path / "elsewhere"}"\n'
        "steps = 9\nbatch_size = 2\nsequence_length = 32\nthreads = 1\n",
        encoding="utf-8",
    )
    command = ["train", "--config", str(settings), "--out", str(run), "--steps", "2", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["step"] == 2
    recorded = json.loads((run / "run.json").read_text(encoding="utf-8"))
    trained = recorded["train"]
    assert recorded["preset"] == "nano"
    assert (trained["steps"], trained["batch_size"], trained["sequence_length"]) == (2, 2, 32)
    assert trained["learning_rate"] == PRESETS["nano"].train["learning_rate"]
    assert not (tmp_path / "elsewhere").exists()
