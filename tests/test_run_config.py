import json
import os
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.config import TrainConfig
from gemmazero.errors import ConfigError, UsageError
from gemmazero.run_config import DataReference, Extension, RunConfig, extensions_from
from hostile.mutation import changed_value
from tiny_run import MODEL, SETTINGS

DATA = DataReference(folder="d", manifest_digest="m", tokenizer_digest="t", source="s", revision=None, options={})
RUN = RunConfig(run_id="a", preset="tiny", model=MODEL, train=TrainConfig(**SETTINGS, compile=False), data=DATA)
FIRST, SECOND = Extension(step=8, steps_before=10, steps=20), Extension(step=16, steps_before=20, steps=30)


def test_run_config_comes_back_from_its_json() -> None:
    run = replace(RUN, extensions=(FIRST, SECOND))
    assert RunConfig.from_json(run.to_json()) == run
    assert extensions_from({"extensions": run.to_json()["extensions"]}) == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("extensions", "step", "known", "passes"),
    [
        ((), 10, (), True),
        ((FIRST,), 8, (), True),
        ((FIRST,), 9, (), False),  # in the decay that the extension undid
        ((FIRST,), 15, (FIRST,), True),
        ((FIRST, SECOND), 16, (FIRST,), True),
        ((FIRST, SECOND), 17, (FIRST,), False),
        ((FIRST, SECOND), 8, (), True),
        ((FIRST, SECOND), 25, (FIRST, SECOND), True),
        ((), 8, (FIRST,), False),
        ((SECOND,), 8, (FIRST,), False),
    ],
)
def test_run_passes_through_what_came_before_each_extension(
    extensions: tuple[Extension, ...], step: int, known: tuple[Extension, ...], passes: bool
) -> None:
    assert replace(RUN, extensions=extensions).passes(step, known) is passes


@pytest.mark.parametrize(("schedule", "curve"), [("cosine", 10), ("wsd", 30), ("constant", 30)])
def test_curve_of_an_extended_cosine_ends_where_it_first_was_to(schedule: str, curve: int) -> None:
    train = TrainConfig(**SETTINGS | {"steps": 30, "schedule": schedule, "compile": False})
    assert replace(RUN, train=train, extensions=(FIRST, SECOND)).curve_steps == curve
    assert replace(RUN, train=train).curve_steps == 30


def test_run_folder_names_are_kept_as_text(tmp_path: Path) -> None:
    run = replace(RUN, data=replace(DATA, folder=str(tmp_path)))
    assert run.to_json()["data"]["folder"] == str(tmp_path)


@pytest.mark.parametrize("place", ["preset", "init", "folder", "stream", "tokenizer"])
def test_name_that_no_json_can_hold_is_refused_before_it_is_written(place: str) -> None:
    name = f"/tmp/{os.fsdecode(b'gem' + bytes([255]))}/x"
    data = {"folder": {"folder": name}, "stream": {"stream": name}, "tokenizer": {"options": {"tokenizer": name}}}
    with pytest.raises(UsageError, match=re.escape('run.json cannot hold "/tmp/gem\\udcff/x": it is not UTF-8')):
        replace(RUN, **({"data": replace(DATA, **data[place])} if place in data else {place: name}))
    assert replace(RUN, init="/tmp/gemä/x").to_json()["init"] == "/tmp/gemä/x"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hostile",), 1, '"hostile" is unknown'),
        (("run_id",), 7, "run_id is no text"),
        (("run_id",), "", "run_id is no text"),
        (("preset",), None, "preset is no text"),
        (("init",), [], "init is no text"),
        (("init",), "a\0b", "init is no text"),
        (("data", "folder"), 7, "folder is no text"),
        (("data", "folder"), "/tmp/\0", "folder is no text"),
        (("data", "folder"), "/tmp/" + "x" * 256, "folder is longer than any name"),
        (("data", "manifest_digest"), None, "manifest_digest is no text"),
        (("data", "revision"), 7, "revision is no text"),
        (("data", "options"), [1], "must be a mapping"),
        (("data", "options"), {"hostile": 1}, "hostile"),
        (("data", "options"), {"seed": "0"}, "--seed must be of type int"),
        (("data", "hostile"), 1, "hostile"),
        (("train", "steps"), 2**70, "--steps must be at most"),
        (("train", "steps"), "6", "--steps must be of type int"),
        (("train", "learning_rate"), 10**4000, "--learning-rate must be at most"),
        (("extensions",), 7, "not iterable"),
        (("extensions",), [{"step": 1, "steps_before": 2, "steps": "3"}], "no whole numbers"),
        (("extensions",), [{"step": -1, "steps_before": 2, "steps": 3}], "no whole numbers"),
        (("extensions",), [{"step": True, "steps_before": 2, "steps": 3}], "no whole numbers"),
        (("extensions",), [{"step": 1}], "missing"),
    ],
)
def test_run_with_something_of_another_type_is_refused(path: tuple[str, ...], value: Any, said: str) -> None:
    record = json.loads(json.dumps(RUN.to_json()))
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=r"unreadable run.json") as raised:
        RunConfig.from_json(record)
    assert said in raised.value.message


@given(st.integers(0, 2**32))
def test_any_change_is_a_run_or_a_config_error(seed: int) -> None:
    chance, record = random.Random(seed), json.loads(json.dumps(RUN.to_json()))
    for _ in range(chance.randint(1, 2)):
        record = changed_value(record, chance)
    try:
        run = RunConfig.from_json(record)
    except ConfigError:
        return
    assert RunConfig.from_json(json.loads(json.dumps(run.to_json()))) == run
