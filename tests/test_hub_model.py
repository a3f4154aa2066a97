"""A MODEL on the Hub, in processes that take a loopback server for it."""

import json
from pathlib import Path
from typing import Any

import pytest

import gemmazero
from hub_server.store import Repo
from hub_world import REPO, World
from tiny_run import SETTINGS

ASKING = """
from pathlib import Path
from gemmazero.errors import GemmaZeroError
from gemmazero.storage.locate import locate_model
def located(name):
    try:
        folder = locate_model(name)
    except GemmaZeroError as error:
        return error.message
    return {path.name: path.read_bytes().hex() for path in folder.iterdir() if path.is_file()}
"""


@pytest.fixture
def published(world: World) -> dict[str, str]:
    """The files of a model that is in a private repository, under main and the tag v1."""
    training = gemmazero.train(preset=str(world.preset), data=str(world.data), out=world.run, **SETTINGS)
    next(event for event in training if type(event).__name__ == "Saved")
    folder = max((world.run / "checkpoints").iterdir())
    repo = world.hub.repos[REPO] = Repo(REPO, "tester", private=True)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    repo.change("main", "", "by hand", [("file", {"path": name}, content) for name, content in files.items()])
    repo.refs["refs/tags/v1"] = repo.refs["refs/heads/main"]
    return {name: content.hex() for name, content in files.items() if name != "checkpoint.json"}


def located(world: World, name: str, **how: Any) -> Any:
    return world.ask(f"{ASKING}\nanswer = located({name!r})", **how)


def test_a_name_with_a_revision_or_without_is_the_model_there(world: World, published: dict[str, str]) -> None:
    assert located(world, REPO) == located(world, f"{REPO}@v1") == published
    assert "has no revision" in located(world, f"{REPO}@v2")


@pytest.mark.slow
def test_the_cache_serves_offline_and_when_the_hub_is_gone_and_nothing_else(
    world: World, published: dict[str, str]
) -> None:
    assert "HF_HUB_OFFLINE" in located(world, REPO, HF_HUB_OFFLINE="1")
    located(world, REPO)
    assert located(world, REPO, HF_HUB_OFFLINE="1") == published
    world.hub.url = "http://127.0.0.1:9"
    assert located(world, REPO) == published
    assert "could not be reached" in located(world, "tester/other")


def bring_all_but(world: World, lacking: str, published: dict[str, str]) -> Path:
    """Into the Hub's cache, file by file, as other programs do; the folder there."""
    names = [name for name in published if name != lacking]
    program = f"from huggingface_hub import hf_hub_download\nanswer = [hf_hub_download({REPO!r}, n) for n in {names!r}]"
    return Path(world.ask(program)[0]).parent


@pytest.mark.parametrize("lacking", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_cache_that_lacks_a_file_is_no_model(world: World, published: dict[str, str], lacking: str) -> None:
    bring_all_but(world, lacking, published)
    assert "HF_HUB_OFFLINE" in located(world, REPO, HF_HUB_OFFLINE="1")


def test_a_cache_that_lacks_a_shard_is_no_model(world: World, published: dict[str, str]) -> None:
    folder = bring_all_but(world, "model.safetensors", published)
    index = {"weight_map": {"one": "model-1.safetensors", "two": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(b"1")
    assert "HF_HUB_OFFLINE" in located(world, REPO, HF_HUB_OFFLINE="1")
    (folder / "model-2.safetensors").write_bytes(b"2")
    assert located(world, REPO, HF_HUB_OFFLINE="1")["model-2.safetensors"] == b"2".hex()


def test_a_revision_that_is_not_there_is_told_as_a_model_is_named(world: World, published: dict[str, str]) -> None:
    ended = world.do("generate", "ant", "--model", f"{REPO}@nosuch")
    assert ended.code == 1
    assert 'has no revision "nosuch"' in ended.output
    assert "MODEL@REVISION" in ended.output


def test_a_cache_that_holds_something_else_is_mended(world: World, published: dict[str, str]) -> None:
    located(world, REPO)
    blob = next(path for path in (world.folder / "home").rglob("blobs/*") if path.stat().st_size > 50_000)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert located(world, REPO) == published


def test_a_private_model_needs_a_token_that_may_read_it(world: World, published: dict[str, str]) -> None:
    told = located(world, REPO, token="hf_tokenofastranger")
    assert told == f'no folder "{REPO}" here, and the Hub knows no model "{REPO}", or does not show it to you'


@pytest.mark.slow
def test_a_name_on_the_hub_works_where_a_model_is_wanted(world: World, published: dict[str, str]) -> None:
    assert world.do("eval", REPO, "--data", world.data).code == 0
    assert world.do("generate", "ant", "--model", f"{REPO}@v1", "--max-tokens", 3).code == 0
    assert world.do("convert", REPO, "export").code == 0
    begun = world.do(
        "train", "--init", REPO, "--data", world.data, "--steps", 1, "--warmup-steps", 0, "--batch-size", 2,
        "--sequence-length", 8,
    )  # fmt: skip
    assert begun.code == 0, begun.output
    assert (world.folder / "runs" / "tiny-animals" / "run.json").is_file()


def test_a_repository_without_a_model_is_told_as_such(world: World) -> None:
    world.hub.repos[REPO] = Repo(REPO, "tester")
    assert "the repository holds no model on main yet" in located(world, REPO)


def test_a_branch_that_is_squashed_while_it_is_read_is_looked_up_again(world: World, published: dict[str, str]) -> None:
    gone = {"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}
    fault = world.hub.fail("status", "GET /api/models/.*/tree/", **gone)
    assert located(world, REPO) == published
    assert fault.hits == 1
