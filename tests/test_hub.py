import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, get_session
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.utils import hf_raise_for_status

from gemmazero.errors import HubError, HubFailure
from gemmazero.hub import hub_failures, patiently, seconds_to_wait
from loopback_hub import COMMIT, LoopbackHub, serving

REPO = "someone/Stories"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "stories.txt").write_text("A story of a dog called Bo.")
    with serving(folder, REPO) as hub:
        yield hub


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


def test_offline_mode_is_told_by_its_own_kind(hub: LoopbackHub, tmp_path: Path) -> None:
    answer = hub.answer(f"resolve_dataset({REPO!r}, None)", tmp_path, HF_HUB_OFFLINE="1")
    assert answer["kind"] == "offline"
    assert "HF_HUB_OFFLINE" in answer["error"]


@pytest.mark.parametrize("kind", ["offline", "refused", "full", "conflict", "absent", "unknown"])
def test_what_does_not_pass_is_not_tried_again(kind: HubFailure) -> None:
    tries = []

    def fail() -> None:
        tries.append(kind)
        raise HubError("it", kind=kind)

    with pytest.raises(HubError):
        patiently(fail)
    assert len(tries) == 1


def test_every_call_has_a_timeout(hub: LoopbackHub, tmp_path: Path) -> None:
    expression = (
        "resolve_dataset('someone/Stories', None) and __import__('huggingface_hub').get_session().timeout.as_dict()"
    )
    timeouts = hub.answer(expression, tmp_path)["value"]
    assert all(0 < seconds <= 180 for seconds in timeouts.values())


def test_file_that_need_not_exist_does_not_explain_a_later_failure(hub: LoopbackHub) -> None:
    def fail_after_looking_for_a_file() -> None:
        try:
            hf_raise_for_status(get_session().get(f"{hub.url}/datasets/{REPO}/resolve/main/absent.txt"))
        except RemoteEntryNotFoundError:
            raise ValueError("later") from None

    with pytest.raises(HubError, match="could not be read from the Hub: ValueError"), hub_failures("it"):
        fail_after_looking_for_a_file()
    close_session()


def test_the_wait_grows_to_five_minutes_and_no_further_however_often_it_failed() -> None:
    waits = [seconds_to_wait(HubError("busy"), failed) for failed in (1, 2, 9, 10, 1025, 10**6)]
    assert waits == [1.0, 2.0, 256.0, 300.0, 300.0, 300.0]
