import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import close_session, get_session
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.utils import hf_raise_for_status

from gemmazero.data.shards import TokenShards
from gemmazero.errors import HubError
from gemmazero.hub import hub_failures
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


def prepared(hub: LoopbackHub, out: Path, *, repo: str = REPO, home: str = "home", **options: object) -> dict[str, Any]:
    config = ", ".join(f"{name}={value!r}" for name, value in ({"tokenizer": "bytes"} | options).items())
    expression = f"prepare({repo!r}, Path({str(out)!r}), PrepareConfig({config})).to_json()"
    answer: dict[str, Any] = hub.answer(expression, out.parent / home)
    return answer


def resolved(hub: LoopbackHub, home: Path, *, repo: str = REPO, revision: str | None = None, **variables: str) -> str:
    answer = hub.answer(f"resolve_dataset({repo!r}, {revision!r})", home, **variables)
    return str(answer.get("value") or answer["error"])


def test_branch_resolves_to_its_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    assert resolved(hub, tmp_path) == COMMIT


def test_full_commit_is_taken_without_asking(hub: LoopbackHub, tmp_path: Path) -> None:
    assert resolved(hub, tmp_path, revision="f" * 40) == "f" * 40
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, "answered HTTP 503"),
        (429, "answered HTTP 429"),
        (404, "answered HTTP 404"),
        (403, "refused"),
        (401, "refused"),
    ],
)
def test_refusal_is_told_with_its_status(hub: LoopbackHub, tmp_path: Path, status: int, message: str) -> None:
    hub.status = status
    assert message in resolved(hub, tmp_path)


def test_absent_dataset_is_told_as_absent(hub: LoopbackHub, tmp_path: Path) -> None:
    assert resolved(hub, tmp_path, repo="someone/else") == (
        'the Hub knows no dataset "someone/else", or does not show it to you'
    )


def test_absent_revision_is_told_as_absent(hub: LoopbackHub, tmp_path: Path) -> None:
    assert resolved(hub, tmp_path, revision="v9") == f'dataset "{REPO}" has no revision "v9"'


def test_private_dataset_needs_its_token_and_no_message_repeats_one(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.token = "hf_right"
    assert resolved(hub, tmp_path, HF_TOKEN="hf_right") == COMMIT
    answer = hub.answer(f"resolve_dataset({REPO!r}, None)", tmp_path, HF_TOKEN="hf_wrong")
    assert "does not show it to you" in answer["error"]
    assert "hf_wrong" not in json.dumps(answer)


def test_unreachable_hub_is_never_told_as_absent_dataset(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.url = "http://127.0.0.1:9"
    answer = prepared(hub, tmp_path / "out")
    assert answer["error"] == f'no file or folder "{REPO}" here, and the Hub could not be reached for dataset "{REPO}"'
    assert not (tmp_path / "out").exists()


def test_offline_mode_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE" in resolved(hub, tmp_path, HF_HUB_OFFLINE="1")


def test_every_call_has_a_timeout(hub: LoopbackHub, tmp_path: Path) -> None:
    expression = (
        "resolve_dataset('someone/Stories', None) and __import__('huggingface_hub').get_session().timeout.as_dict()"
    )
    timeouts = hub.answer(expression, tmp_path)["value"]
    assert all(0 < seconds <= 180 for seconds in timeouts.values())


def test_dataset_is_pinned_and_keeps_its_own_validation_split(hub: LoopbackHub, tmp_path: Path) -> None:
    answer = prepared(hub, tmp_path / "out")
    assert answer["stderr"] == ""
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
    assert answer["error"] == f'dataset "{REPO}" could not be read from the Hub: DataFilesNotFoundError'


def test_file_that_need_not_exist_does_not_explain_a_later_failure(hub: LoopbackHub) -> None:
    def fail_after_looking_for_a_file() -> None:
        try:
            hf_raise_for_status(get_session().get(f"{hub.url}/datasets/{REPO}/resolve/main/absent.txt"))
        except RemoteEntryNotFoundError:
            raise ValueError("later") from None

    with pytest.raises(HubError, match="could not be read from the Hub: ValueError"), hub_failures("it"):
        fail_after_looking_for_a_file()
    close_session()


def test_other_state_in_the_cache_does_not_stand_in_for_the_one_asked_for(hub: LoopbackHub, tmp_path: Path) -> None:
    prepared(hub, tmp_path / "first")
    hub.status = 401
    answer = prepared(hub, tmp_path / "second", revision="f" * 40)
    assert answer["error"] == f'the Hub did not give revision "{"f" * 40}" of dataset "{REPO}"'
