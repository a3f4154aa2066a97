"""What a repository on the Hub holds of a run: read at one commit, verified, or told as absent by the Hub itself."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gemmazero.errors import CheckpointError, ConfigError, GemmaZeroError, HubError
from gemmazero.hub_content import Content
from gemmazero.hub_repo import ATTRIBUTES, MAIN, HubRepo
from gemmazero.json_file import LARGEST_JSON, read_json
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import MANIFEST, Checkpoint
from gemmazero.storage.lineage import State
from gemmazero.storage.locate import RUN_FILE
from gemmazero.storage.state_check import LARGEST_HISTORY, check_state

HEAVY = "training-state"  # the branch of the newest complete state
BEST = "best"  # the folder in it with the best checkpoint, where that is another one
LIGHT_MANIFEST = "gemmazero.json"  # on main
CARD = "README.md"

_TOLD = dict.fromkeys((MANIFEST, RUN_FILE, "training/state.json"), LARGEST_JSON)  # and how large each may be
_TOLD["training/history.jsonl"] = LARGEST_HISTORY


@dataclass(frozen=True, kw_only=True)
class RemoteState:
    """The state that the commit ``sha`` of the heavy track holds; ``files`` is all of it."""

    repo: HubRepo
    sha: str
    files: Mapping[str, Content]
    state: State


def look_at(repo: HubRepo) -> RemoteState | None:
    """The state that ``repo`` holds; None only where the Hub itself said that there is none.

    Raises:
        HubError: it could not be reached, or refused, or what it holds is damaged.
    """
    sha = repo.head(HEAVY)
    files = {} if sha is None else repo.files(sha)
    state = None if sha is None else state_at(repo, sha, files)
    return None if sha is None or state is None else RemoteState(repo=repo, sha=sha, files=files, state=state)


def state_at(repo: HubRepo, sha: str, files: Mapping[str, Content]) -> State | None:
    """The state in a commit of the heavy track, by its small files; None where none was ever there. Raises HubError."""
    if MANIFEST not in files and _is_of_main(repo, files):
        return None
    if missing := sorted(set(_TOLD) - set(files)):
        raise damaged(repo, f'"{missing[0]}" is missing')
    if large := [path for path, limit in _TOLD.items() if files[path].size > limit]:
        raise damaged(repo, f'"{large[0]}" has {files[large[0]].size} bytes')
    with tempfile.TemporaryDirectory(prefix="gemmazero-") as name:
        folder = Path(name)
        repo.download(sha, {path: files[path] for path in _TOLD}, folder)
        try:
            config = RunConfig.from_json(read_json(folder / RUN_FILE))
            return state_in(folder, config)
        except GemmaZeroError as error:
            raise damaged(repo, error.message.replace(f"{folder}/", "")) from error


def state_in(folder: Path, config: RunConfig) -> State:
    """The state in a checkpoint folder, or in the part of one that tells of it.

    Raises:
        CheckpointError: it is not one of the run of ``config``.
    """
    checkpoint = Checkpoint.open(folder)
    extensions, history = check_state(checkpoint)
    if checkpoint.run_id != config.run_id:
        raise CheckpointError(f'"{folder}" is not a state of the run {config.run_id}')
    return State(config=config, step=checkpoint.step, extensions=extensions, history=history)


def stranger_on_main(repo: HubRepo, run_id: str | None) -> str:
    """What main holds that is not of the run ``run_id``, in words; empty where there is nothing of the kind."""
    sha = repo.head(MAIN)
    files = {} if sha is None else repo.files(sha)
    if sha is None or not set(files) - {ATTRIBUTES, CARD}:
        return ""
    if LIGHT_MANIFEST not in files:
        return "other files"
    with tempfile.TemporaryDirectory(prefix="gemmazero-") as name:
        repo.download(sha, {LIGHT_MANIFEST: files[LIGHT_MANIFEST]}, Path(name))
        try:
            owner = read_json(Path(name) / LIGHT_MANIFEST).get("run_id")
        except ConfigError as error:
            raise damaged(repo, f'"{LIGHT_MANIFEST}" is unreadable') from error
    return "" if owner == run_id else f"the run {owner}"


def _is_of_main(repo: HubRepo, files: Mapping[str, Content]) -> bool:
    """Whether the heavy track holds nothing but what it was made from: main's files, and no state yet."""
    others = {path: content for path, content in files.items() if path not in (ATTRIBUTES, CARD)}
    sha = repo.head(MAIN) if others else None
    there = {} if sha is None else repo.files(sha)
    return all(path in there and content.matches(there[path]) for path, content in others.items())


def damaged(repo: HubRepo, what: str) -> HubError:
    """The error for a state on the Hub that is not as it was pushed; ``what`` of it is not."""
    return HubError(f"the training state in {repo} is damaged: {what}", "--hub-repo names another", kind="damaged")
