from pathlib import Path

import pytest

from gemmazero.cli.settings_file import read_settings
from gemmazero.config import TrainConfig
from gemmazero.errors import ConfigError, UsageError


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_file_holds_settings_and_places(tmp_path: Path) -> None:
    path = written(tmp_path, 'preset = "nano"\ndata = "d"\nsteps = 5\nlearning_rate = 1\ngradient_checkpointing = true')
    assert read_settings(path) == {
        "preset": "nano",
        "data": "d",
        "steps": 5,
        "learning_rate": 1,
        "gradient_checkpointing": True,
    }


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("step = 5", 'unknown setting "step"', "did you mean steps?"),
        ("batch-size = 5", 'unknown setting "batch-size"', "did you mean batch_size?"),
        ("zebra = 5", 'unknown setting "zebra"', "gemmazero train --help"),
        ('steps = "5"', "steps in", ""),
        ("steps = 5.0", "must be a whole number", ""),
        ("steps = true", "must be a whole number", ""),
        ("learning_rate = true", "must be a number", ""),
        ("gradient_checkpointing = 1", "must be true or false", ""),
        ('schedule = "linear"', "must be one of cosine, wsd, constant", ""),
        ("preset = 15", "preset in", ""),
        ("steps = ", "is not TOML", "a setting a line"),
        ("steps = " + "1" * 5000, "is not TOML", "a setting a line"),
        ("steps = " + "[" * 9000, "is not TOML", "a setting a line"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_settings(written(tmp_path, line))
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.hint


def test_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbfsteps = 5")
    assert read_settings(path) == {"steps": 5}


def test_number_that_nothing_can_hold_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "learning_rate = " + "1" * 400)
    with pytest.raises(UsageError, match="--learning-rate must be at most"):
        TrainConfig(**read_settings(path))


def test_missing_and_undecodable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_settings(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="is a directory"):
        read_settings(tmp_path)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'preset = "\xe9"')
    with pytest.raises(ConfigError, match="is not TOML"):
        read_settings(path)
