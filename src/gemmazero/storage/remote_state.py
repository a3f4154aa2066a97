"""What a repository on the Hub holds of a run: read at one commit, verified, or told as absent by the Hub itself."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gemmazero.errors import CheckpointError, ConfigError, GemmaZeroError, HubError
from gemmazero.hub_content import Content
from gemmazero.hub_repo import ATTRIBUTES, MAIN, HubRepo
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig, extensions_from
from gemmazero.storage.checkpoint import MANIFEST, Checkpoint
from gemmazero.storage.lineage import State
from gemmazero.storage.locate import RUN_FILE

HEAVY = "training-state"  # the branch of the newest complete state
BEST = "best"  # the folder in it with the best checkpoint, where that is another one
LIGHT_MANIFEST = "gemmazero.json"  # on main
CARD = "README.md"

_TOLD = (MANIFEST, RUN_FILE, "training/state.json", "training/history.jsonl")


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
        raise _damaged(repo, f'"{missing[0]}" is missing')
    with tempfile.TemporaryDirectory(prefix="gemmazero-") as name:
        folder = Path(name)
        repo.download(sha, {path: files[path] for path in _TOLD}, folder)
        try:
            config = RunConfig.from_json(read_json(folder / RUN_FILE))
            return state_in(folder, config)
        except GemmaZeroError as error:
            raise _damaged(repo, error.message.replace(f"{folder}/", "")) from error


def state_in(folder: Path, config: RunConfig) -> State:
    """The state in a checkpoint folder, or in the part of one that tells of it.

    Raises:
        CheckpointError: it is not one of the run of ``config``.
    """
    checkpoint = Checkpoint.open(folder)
    try:
        record = checkpoint.record()
        history = (folder / "training" / "history.jsonl").read_text(encoding="utf-8")
        state = State(
            config=config,
            step=checkpoint.step,
            extensions=extensions_from(record),
            history=tuple(history.splitlines()),
        )
        is_sound = checkpoint.run_id == config.run_id and record["step"] == state.step
        is_sound = is_sound and all(isinstance(json.loads(line)["step"], int) for line in state.history)
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{folder}" has an unreadable training state: {error}') from error
    if not is_sound:
        raise CheckpointError(f'"{folder}" is not a state of the run {config.run_id}')
    return state


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
            raise _damaged(repo, f'"{LIGHT_MANIFEST}" is unreadable') from error
    return "" if owner == run_id else f"the run {owner}"


def _is_of_main(repo: HubRepo, files: Mapping[str, Content]) -> bool:
    """Whether the heavy track holds nothing but what it was made from: main's files, and no state yet."""
    others = {path: content for path, content in files.items() if path not in (ATTRIBUTES, CARD)}
    sha = repo.head(MAIN) if others else None
    there = {} if sha is None else repo.files(sha)
    return all(path in there and content.matches(there[path]) for path, content in others.items())


def _damaged(repo: HubRepo, what: str) -> HubError:
    return HubError(f"the training state in {repo} is damaged: {what}", "--hub-repo names another", kind="damaged")
