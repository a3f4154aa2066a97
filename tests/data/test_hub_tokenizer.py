import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reading import json_lines
from sentencepiece_style import gemma_style

from gemmazero.config import PrepareConfig
from gemmazero.data.hub_tokenizer import is_on_hub, pinned_tokenizer, portable_name
from gemmazero.data.prepare import prepare
from gemmazero.data.tokenizer import Tokenizer
from loopback_hub import COMMIT, LoopbackHub, serving

REPO = "someone/Gemma"
TEXTS = [f"a little dog {number}" for number in range(30)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    """A model repo with a Gemma-style tokenizer, chat tokens and all."""
    folder = tmp_path / "repo"
    folder.mkdir()
    backend = gemma_style()
    backend.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": "<eos>"}))
    (folder / "model.safetensors").write_bytes(b"never read")
    with serving(folder, REPO, is_dataset=False) as hub:
        yield hub


def prepared(hub: LoopbackHub, out: Path, *tokenizers: str, **variables: str) -> dict[str, Any]:
    """The last report of ``prepare`` into ``out`` with each of the tokenizers."""
    source = json_lines(out.parent / "stories.jsonl", TEXTS)
    call = f"[prepare({str(source)!r}, Path({str(out)!r}), PrepareConfig(tokenizer=name)).to_json()"
    call += f" for name in {tokenizers or (REPO,)}][-1]"
    answer: dict[str, Any] = hub.answer(call, out.parent / "home", **variables)
    return answer


def test_tokenizer_on_the_hub_is_the_same_as_in_its_folder_and_is_known_by_its_commit(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    prepared(hub, tmp_path / "remote")
    prepare(str(tmp_path / "stories.jsonl"), tmp_path / "local", PrepareConfig(tokenizer=str(hub.folder)))
    remote, local = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("remote", "local"))
    assert (remote.pop("tokenizer"), local.pop("tokenizer")) == (REPO, "repo")
    assert remote["options"].pop("tokenizer") == f"{REPO}@{COMMIT}"
    assert local["options"].pop("tokenizer") == "repo"
    assert remote == local
    assert Tokenizer.load(tmp_path / "remote").turn_ids is not None
    assert "model.safetensors" not in str(hub.requests)


def test_folder_is_known_again_by_the_branch_and_by_the_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    assert prepared(hub, tmp_path / "out", REPO, REPO)["value"]["reused"]
    assert prepared(hub, tmp_path / "out", f"{REPO}@main", f"{REPO}@{COMMIT}")["value"]["reused"]
    answer = prepared(hub, tmp_path / "out", f"{REPO}@{'f' * 40}")
    assert "was prepared with tokenizer" in answer["error"]


def test_file_that_arrives_damaged_is_downloaded_again_and_never_believed(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.damaged = 1
    (tmp_path / "another").mkdir()
    assert "value" in prepared(hub, tmp_path / "another" / "out")
    hub.damaged = 2
    answer = prepared(hub, tmp_path / "out")
    assert answer["error"] == f'"tokenizer.json" of "{REPO}" arrived damaged, twice'
    assert "value" in prepared(hub, tmp_path / "out")  # the damaged one in the cache is not believed either


def test_absent_repo_and_file_are_told(hub: LoopbackHub, tmp_path: Path) -> None:
    told = prepared(hub, tmp_path / "out", "someone/else")["error"]
    assert told.startswith('no file or folder "someone/else" here, and the Hub knows no model "someone/else"')
    assert prepared(hub, tmp_path / "out", "someone/else")["kind"] == "absent"
    (hub.folder / "tokenizer.json").rename(hub.folder / "tokenizer.model")
    assert prepared(hub, tmp_path / "out")["error"] == f'"{REPO}" on the Hub has no tokenizer.json'


@pytest.mark.parametrize("token", ["hf_wrong", "hf_right"])
def test_private_tokenizer_needs_its_token_and_nothing_repeats_it(hub: LoopbackHub, tmp_path: Path, token: str) -> None:
    hub.token = "hf_right"
    answer = prepared(hub, tmp_path / "out", HF_TOKEN=token)
    assert ("value" in answer) == (token == "hf_right")
    assert token not in str(answer)


def test_path_that_exists_and_names_of_files_are_never_asked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "gemma").mkdir(parents=True)
    for name in ("models/gemma", "models/tokenizer.json", "gpt2", "bytes", "bpe:300", "a/b/c", "/models/gemma"):
        assert not is_on_hub(name)
        assert pinned_tokenizer(name) == name
    assert is_on_hub("google/gemma-3-1b-it@main")
    assert is_on_hub(f"a/{'b' * 300}")  # longer than any name of a file
    assert pinned_tokenizer(f"a/b@{COMMIT}") == f"a/b@{COMMIT}" == portable_name(f"a/b@{COMMIT}")
    assert portable_name("models/gemma") == portable_name("models/gemma/tokenizer.json") == "gemma"
