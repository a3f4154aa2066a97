from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from gemmazero.data.shards import TokenShards
from loopback_hub import COMMIT, LoopbackHub, serving

REPO = "someone/Stories"
TRAINING = [f"Story {number} of a dog called Bo." for number in range(20)]
VALIDATION = ["A story that is held out.", "Another one, of a cat."]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "repo"
    folder.mkdir()
    for split, texts in {"train": TRAINING, "validation": VALIDATION}.items():
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / f"{split}-00000-of-00001.parquet")
    with serving(folder, REPO) as hub:
        yield hub


def prepared(
    hub: LoopbackHub,
    out: Path,
    *,
    repo: str = REPO,
    home: str = "home",
    variables: dict[str, str] | None = None,
    **options: object,
) -> dict[str, Any]:
    config = ", ".join(f"{name}={value!r}" for name, value in ({"tokenizer": "bytes"} | options).items())
    expression = f"prepare({repo!r}, Path({str(out)!r}), PrepareConfig({config})).to_json()"
    answer: dict[str, Any] = hub.answer(expression, out.parent / home, **(variables or {}))
    return answer


def test_dataset_is_pinned_and_keeps_its_own_validation_split(hub: LoopbackHub, tmp_path: Path) -> None:
    answer = prepared(hub, tmp_path / "out")
    assert answer["written"] == ""
    train, validation = TokenShards(tmp_path / "out", "train"), TokenShards(tmp_path / "out", "validation")
    assert train.manifest.revision == COMMIT
    assert train.manifest.source == REPO
    documents = "".join(chr(token) for token in train.read(0, len(train))).split(chr(train.manifest.end_id))
    assert documents == [*TRAINING, ""]
    assert validation.documents == len(VALIDATION)
    assert validation.text_bytes == sum(map(len, VALIDATION))


def test_prepared_dataset_is_found_again_without_a_download(hub: LoopbackHub, tmp_path: Path) -> None:
    prepared(hub, tmp_path / "out")
    hub.requests.clear()
    assert prepared(hub, tmp_path / "out", home="other")["value"]["reused"]
    assert hub.requests == [f"GET /api/datasets/{REPO}"]


def test_wrong_column_split_and_subset_list_the_choices(hub: LoopbackHub, tmp_path: Path) -> None:
    assert prepared(hub, tmp_path / "out", text_column="story")["hint"] == "--text-column is one of text"
    assert prepared(hub, tmp_path / "out", split="test")["hint"] == "--split is one of train, validation"
    (hub.folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: train-*\n- config_name: large\n  data_files: train-*\n---\n"
    )
    assert prepared(hub, tmp_path / "out", home="second")["hint"] == "--subset is one of small, large"
    assert "value" in prepared(hub, tmp_path / "out", home="second", subset="large")


def test_dataset_without_text_files_is_not_told_as_a_failing_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    for path in hub.folder.iterdir():
        path.rename(path.with_suffix(".xyz"))
    answer = prepared(hub, tmp_path / "out")
    assert answer["error"] == f'dataset "{REPO}" has no files that can be read'
    assert answer["hint"] == "its page on the Hub lists those that it has"
    for path in hub.folder.iterdir():
        path.unlink()
    assert prepared(hub, tmp_path / "out", home="second")["error"] == answer["error"]


def test_other_state_in_the_cache_does_not_stand_in_for_the_one_asked_for(hub: LoopbackHub, tmp_path: Path) -> None:
    prepared(hub, tmp_path / "first")
    hub.status = 401
    answer = prepared(hub, tmp_path / "second", revision="f" * 40)
    assert answer["error"] == f'the Hub did not give revision "{"f" * 40}" of dataset "{REPO}"'


def test_unreachable_hub_is_never_told_as_absent_dataset(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.url = "http://127.0.0.1:9"
    answer = prepared(hub, tmp_path / "out")
    assert answer["error"] == f'no file or folder "{REPO}" here, and the Hub could not be reached for dataset "{REPO}"'
    assert answer["kind"] == "unreachable"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("token", [pytest.param(None, marks=pytest.mark.slow), "hf_wrong"])
def test_private_dataset_is_read_with_its_token_alone_and_no_message_repeats_one(
    hub: LoopbackHub, tmp_path: Path, token: str | None
) -> None:
    hub.token = "hf_right"
    given = {} if token is None else {"HF_TOKEN": token}
    answer = prepared(hub, tmp_path / "out", variables=given)
    assert "does not show it to you" in answer["error"]
    assert "HF_TOKEN" in answer["hint"]
    assert not (tmp_path / "out").exists()
    right = prepared(hub, tmp_path / "out", variables={"HF_TOKEN": "hf_right"})
    assert right["value"]["train"]["documents"] == len(TRAINING)
    assert not [text for text in (str(answer), str(right)) if "hf_" in text]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_right" in path.read_bytes()]
    assert written == []


def test_file_that_breaks_off_is_a_failure_of_the_hub_and_the_next_attempt_goes_on(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.cut = 100
    answer = prepared(hub, tmp_path / "out")
    assert f'dataset "{REPO}"' in answer["error"]
    assert "could not be re" in answer["error"]  # reached, or read
    assert not (tmp_path / "out").exists()
    hub.cut = None
    assert prepared(hub, tmp_path / "out")["value"]["train"]["documents"] == len(TRAINING)


def test_data_that_arrives_damaged_is_downloaded_again_and_never_believed(hub: LoopbackHub, tmp_path: Path) -> None:
    for path in hub.folder.iterdir():
        path.unlink()
    (hub.folder / "data").mkdir()
    (hub.folder / "data" / "train.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TRAINING))
    hub.damaged = 2
    told = prepared(hub, tmp_path / "out")["error"]
    assert told == f'"data/train.jsonl" of "{REPO}" arrived damaged, twice'
    (tmp_path / "another").mkdir()
    for out, hub.damaged in ((tmp_path / "out", 0), (tmp_path / "another" / "out", 1)):
        splits = prepared(hub, out)["value"]  # what the cache holds of the first attempt is not believed either
        assert splits["train"]["documents"] + splits["validation"]["documents"] == len(TRAINING)
