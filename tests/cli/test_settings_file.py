import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemmazero.cli.settings_file import PLACES, read_settings
from gemmazero.config import TrainConfig
from gemmazero.errors import ConfigError, GemmaZeroError, UsageError
from hostile.mutation import changed


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
        ("steps = " + "[\n" * 9000, "is not TOML", "a setting a line"),
        (".".join("a" * 600) + " = 1", "a line of more than 1024 characters", "a setting a line"),
        ("# a\n" * 20_000, "at most 65536 are read", "takes a TOML file"),
        ('out = "a\\u0000b"', "out in", "gemmazero train --help"),
        ("max_time = 90", 'must be a text, not "90"', "gemmazero train --help"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, line: str, message: str, hint: str) -> None:
    with pytest.raises(GemmaZeroError) as raised:
        read_settings(written(tmp_path, line))
    assert message in raised.value.message
    is_settings = hint not in ("a setting a line", "takes a TOML file")
    assert raised.value.exit_code == (2 if is_settings else 1), "wrong settings are wrong usage, as on the command line"
    assert hint in raised.value.hint
    assert raised.value.hint


def test_setting_that_may_be_left_out_is_a_text_where_it_is_not(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, 'max_time = "90s"')) == {"max_time": "90s"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_any_change_is_settings_or_an_error(tmp_path: Path, seed: int) -> None:
    good = b'preset = "nano"\nsteps = 5\nlearning_rate = 1e-3\nmax_time = "90s"\ncompile = true\nschedule = "wsd"\n'
    (tmp_path / "run.toml").write_bytes(changed(good, random.Random(seed)))
    try:
        record = read_settings(tmp_path / "run.toml")
    except (ConfigError, UsageError):
        return
    with suppress(UsageError):
        TrainConfig(**{name: value for name, value in record.items() if name not in PLACES})


def test_pipe_is_no_settings_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_settings(tmp_path / "run.toml")


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


def test_setting_that_is_a_number_or_a_word_takes_both_and_nothing_else(tmp_path: Path) -> None:
    def micro_batch_size(value: str) -> object:
        file = tmp_path / "run.toml"
        file.write_text(f"micro_batch_size = {value}", encoding="utf-8")
        return read_settings(file)["micro_batch_size"]

    assert (micro_batch_size('"auto"'), micro_batch_size("4")) == ("auto", 4)
    for wrong in ('"all"', "4.5", "true"):
        with pytest.raises(UsageError, match="must be a whole number or auto"):
            micro_batch_size(wrong)
