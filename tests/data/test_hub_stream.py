import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from loopback_hub import COMMIT, LoopbackHub, serving

REPO = "someone/Stories"
TRAINING = [[f"Story {part}.{number} of a dog." for number in range(300)] for part in range(3)]
VALIDATION = ["A story that is held out.", "Another one, of a cat."]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "repo"
    folder.mkdir()
    for part, texts in enumerate(TRAINING):
        table = pyarrow.table({"id": range(300), "text": texts})
        pyarrow.parquet.write_table(table, folder / f"train-{part:05d}-of-00003.parquet", row_group_size=100)
    pyarrow.parquet.write_table(pyarrow.table({"text": VALIDATION}), folder / "validation-00000-of-00001.parquet")
    with serving(folder, REPO) as hub:
        yield hub


def streamed(hub: LoopbackHub, tmp_path: Path, expression: str, **options: object) -> dict[str, Any]:
    config = ", ".join(f"{name}={value!r}" for name, value in options.items())
    opened = (
        f"__import__('gemmazero.data.stream_source').data.stream_source.open_stream({REPO!r}, PrepareConfig({config}))"
    )
    answer: dict[str, Any] = hub.answer(f"(lambda source: {expression})({opened})", tmp_path / "home")
    return answer


def test_every_file_is_a_part_and_what_is_not_read_is_not_asked_for(hub: LoopbackHub, tmp_path: Path) -> None:
    answer = streamed(
        hub,
        tmp_path,
        "[source.revision, len(source.parts()), list(source.parts()[1]()), list(source.validation()())]",
    )
    assert answer["value"] == [COMMIT, 3, TRAINING[1], VALIDATION]
    assert answer["written"] == ""
    assert not [request for request in hub.requests if "train-00002" in request]
    assert not [path for path in (tmp_path / "home").rglob("*") if path.suffix in (".parquet", ".arrow")]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        pytest.param({"split": "test"}, "--split is one of train, validation", marks=pytest.mark.slow),
        ({"text_column": "story"}, "--text-column is one of id, text"),
    ],
)
def test_wrong_split_and_column_list_the_choices(
    options: dict[str, str], hint: str, hub: LoopbackHub, tmp_path: Path
) -> None:
    answer = streamed(hub, tmp_path, "next(source.parts()[0]())", **options)
    assert hint in answer["hint"]


@pytest.mark.slow  # the client's own tries
def test_file_that_breaks_off_is_an_error(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.cut = 200
    answer = streamed(hub, tmp_path, "list(source.parts()[0]())")
    assert REPO in answer["error"]
    assert answer["written"] == "", "nothing but the error is told"


@pytest.mark.slow
def test_invalid_text_is_none(hub: LoopbackHub, tmp_path: Path) -> None:
    binary = pyarrow.array([b"good", b"\xc3("], pyarrow.binary())
    column = pyarrow.Array.from_buffers(pyarrow.string(), 2, binary.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), hub.folder / "train-00000-of-00003.parquet")
    for part in (1, 2):
        (hub.folder / f"train-0000{part}-of-00003.parquet").unlink()
    answer = streamed(hub, tmp_path, "list(source.parts()[0]())")
    assert json.loads(json.dumps(answer["value"])) == ["good", None]
