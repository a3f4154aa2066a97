import dataclasses
import shutil
from pathlib import Path

import pytest

from gemmazero.config import TrainConfig
from gemmazero.data.prepare import Prepared
from gemmazero.data.shards import Manifest
from gemmazero.errors import DataError
from gemmazero.run_config import DataReference, RunConfig
from gemmazero.training.data_folder import prepared, prepared_again, tokenizer_of
from tiny_run import make_model

RUN = RunConfig(
    run_id="a1b2", preset="tiny", model=make_model().config, train=TrainConfig(),
    data=DataReference(
        folder="", manifest_digest="", tokenizer_digest="", source="", revision=None, options={},
    ),
)  # fmt: skip


def returned(generator: object) -> tuple[list[object], Path]:
    events: list[object] = []
    try:
        while True:
            events.append(next(generator))  # type: ignore[call-overload]
    except StopIteration as end:
        return events, end.value


def reference(folder: Path, source: str, revision: str | None = None) -> DataReference:
    manifest = Manifest.read(folder)
    options = {**manifest.options, "subset": manifest.subset}
    return DataReference(
        folder=str(folder), manifest_digest=manifest.digest, tokenizer_digest=manifest.tokenizer_digest,
        source=source, revision=revision, options=options,
    )  # fmt: skip


def test_data_folder_is_taken_as_it_is(tiny_data: Path) -> None:
    assert returned(prepared(str(tiny_data))) == ([], tiny_data)
    assert returned(prepared_again(None, reference(tiny_data, "animals"))) == ([], tiny_data)


def test_source_is_prepared_into_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events, folder = returned(prepared("sample"))
    assert folder == Path("data/sample")
    assert isinstance(events[-1], Prepared)
    assert Manifest.read(folder).source == "sample"


def test_local_text_that_is_gone_is_asked_for(tiny_data: Path, tmp_path: Path) -> None:
    gone = reference(tiny_data, "animals.jsonl", "sha256:0")
    gone = DataReference(**{**vars(gone), "folder": str(tmp_path / "gone")})
    with pytest.raises(DataError, match="is gone") as raised:
        returned(prepared_again(None, gone))
    assert "animals.jsonl" in raised.value.hint


@pytest.mark.parametrize(("key", "value"), [("vocab_size", 60_000), ("end_id", 3)])
def test_tokens_of_another_tokenizer_are_refused(key: str, value: int, tiny_data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_data, tmp_path / "data")
    config = dataclasses.replace(RUN, data=reference(folder, "animals"))
    assert tokenizer_of(config).vocab_size == Manifest.read(folder).vocab_size
    dataclasses.replace(Manifest.read(folder), **{key: value}).write(folder)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"are not of its tokenizer: manifest.json .*{value}"):
        tokenizer_of(config)
