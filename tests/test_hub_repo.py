"""The client's side of a repository, in processes that take a loopback server for the Hub."""

import hashlib
from typing import Any

import pytest

from hub_server.server import TOKEN
from hub_server.store import Entry, Repo
from hub_world import REPO, World

ASKING = f"""
from pathlib import Path
from gemmazero.errors import GemmaZeroError, HubError
from gemmazero.hub_content import Content
from gemmazero.hub_repo import HubRepo
repo = HubRepo("{REPO}")
def told(action):
    try:
        return action()
    except HubError as error:
        return [error.kind, error.message, error.retry_after]
"""


def ask(world: World, expression: str, **variables: str) -> Any:
    return world.ask(f"{ASKING}\nanswer = told(lambda: {expression})", **variables)


def begin(world: World) -> Repo:
    repo = world.hub.repos[REPO] = Repo(REPO, "tester")
    return repo


def test_absent_is_the_hubs_own_word_alone(world: World) -> None:
    assert ask(world, "repo.head('main')") is None
    sha = begin(world).resolve("main").sha
    assert ask(world, "[repo.head('main'), repo.head('other')]") == [sha, None]


@pytest.mark.parametrize(
    ("do", "how", "kind", "retry_after"),
    [
        ("status", {"status": 503}, "unreachable", 0.0),
        ("status", {"status": 429, "headers": {"Retry-After": "7"}}, "unreachable", 7.0),
        ("status", {"status": 429, "headers": {"RateLimit": '"api";r=0;t=9'}}, "unreachable", 9.0),
        ("status", {"status": 429, "headers": {"Retry-After": "99999"}}, "unreachable", 300.0),
        ("status", {"status": 503, "headers": {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}}, "unreachable", 300.0),
        ("status", {"status": 503, "headers": {"Retry-After": "Fri, 01 Jan 1999 00:00:00 GMT"}}, "unreachable", 0.0),
        ("status", {"status": 503, "headers": {"Retry-After": "soon"}}, "unreachable", 0.0),
        ("status", {"status": 401, "message": "Invalid credentials in Authorization header"}, "refused", 0.0),
        ("status", {"status": 401, "headers": {"X-Error-Code": "RepoNotFound"}}, "refused", 0.0),
        ("status", {"status": 403}, "refused", 0.0),
        ("reset", {}, "unreachable", 0.0),
        ("hang", {"seconds": 2.0}, "unreachable", 0.0),
    ],
)
def test_trouble_is_never_told_as_absence(
    world: World, do: Any, how: dict[str, Any], kind: str, retry_after: float
) -> None:
    begin(world)
    world.hub.fail(do, "GET /api/models", times=-1, **how)
    told = ask(world, "repo.head('main')", GEMMAZERO_HUB_TIMEOUT="1")
    assert (told[0], told[2]) == (kind, retry_after)
    assert TOKEN not in told[1]


def test_a_commit_is_whole_or_not_there_and_never_upon_another_parent(world: World) -> None:
    repo = begin(world)
    head = repo.resolve("main").sha
    commit = f"repo.commit('main', {{'a.safetensors': b'12', 'b.txt': b'3'}}, [], parent='{head}', message='one')"
    world.hub.fail("reset", "POST .*/commit/main")
    assert ask(world, commit)[0] == "unreachable"
    assert repo.resolve("main").sha == head
    ask(world, commit)
    assert {path: repo.state("main")[path] for path in ("a.safetensors", "b.txt")} == {
        "a.safetensors": b"12",
        "b.txt": b"3",
    }
    assert ask(world, commit.replace("b'3'", "b'4'"))[0] == "conflict"


def test_a_full_quota_is_told_as_such(world: World) -> None:
    head = begin(world).resolve("main").sha
    world.hub.quota = 1
    told = ask(world, f"repo.commit('main', {{'a.safetensors': b'12'}}, [], parent='{head}', message='one')")
    assert told[0] == "full"


def test_only_what_no_commit_of_any_ref_refers_to_is_freed(world: World) -> None:
    repo = begin(world)
    for name in ("of main", "of a tag", "of a branch's past", "of nobody"):
        repo.objects[name] = b"large"

    def commit(*names: str) -> str:
        return repo.add({f"{name}.safetensors": Entry(5, object=name) for name in names}, "by hand", "")

    past = commit("of a branch's past")
    repo.refs |= {"refs/heads/main": commit("of main"), "refs/tags/v1": commit("of a tag")}
    repo.refs["refs/heads/other"] = repo.add({}, "later", past)
    ask(world, "repo.free()")
    assert set(repo.objects) == {"of main", "of a tag", "of a branch's past"}


def test_what_somebody_commits_while_storage_is_freed_is_not_freed(world: World) -> None:
    """At every request, in whatever order they come."""
    repo = begin(world)
    names: list[str] = []
    disturbed = world.hub.faults.of

    def commit_and_go_on(request: str) -> Any:
        names.append(f"object {len(names)}")
        repo.objects[names[-1]] = b"large"
        operation = ("lfsFile", {"path": f"{len(names)}.safetensors", "oid": names[-1]}, b"")
        repo.change("main", "", "by hand", [operation])
        return disturbed(request)

    repo.objects["of nobody"] = b"large"
    world.hub.faults.of = commit_and_go_on  # type: ignore[method-assign]
    ask(world, "repo.free()")
    assert len(names) > 3
    assert set(repo.objects) == set(names)


@pytest.mark.parametrize("trouble", ["corrupt", "truncate"])
def test_a_file_that_arrives_damaged_or_cut_is_fetched_again(world: World, trouble: Any) -> None:
    repo, content = begin(world), bytes(range(256))
    name = hashlib.sha256(content).hexdigest()
    repo.objects[name] = content
    repo.change("main", "", "by hand", [("lfsFile", {"path": "a.safetensors", "oid": name}, b"")])
    fault = world.hub.fail(trouble, "GET /objects/")
    sha = repo.resolve("main").sha
    ask(world, f"repo.download('{sha}', {{'a.safetensors': repo.files('{sha}')['a.safetensors']}}, Path('in'))")
    assert fault.hits == 1
    assert (world.folder / "in" / "a.safetensors").read_bytes() == content


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", "a\\out"])
def test_a_path_that_leads_out_of_the_folder_is_refused(world: World, path: str) -> None:
    told = ask(world, f"repo.download('{'0' * 40}', {{{path!r}: Content(1)}}, Path('in'))")
    assert told[0] == "damaged"
    assert world.hub.requests == []


def test_a_repository_that_is_hidden_is_not_made_again(world: World) -> None:
    world.hub.repos[REPO] = Repo(REPO, "tester")
    world.hub.fail("status", "GET /api/models", times=-1, status=404, headers={"X-Error-Code": "RepoNotFound"})
    assert ask(world, "repo.create(private=False)")[:2] == [
        "refused",
        f'"{REPO}" is there, but not shown to this token',
    ]


def test_a_private_repository_is_made_private(world: World) -> None:
    ask(world, "repo.create(private=True)")
    assert world.repo.private
