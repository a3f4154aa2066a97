"""A model's name on the Hub → its folder in the Hub's cache, as ``hf download`` would leave it there."""

import logging
from pathlib import Path

from gemmazero.errors import ConfigError, HubError
from gemmazero.hub import download_listed, hub_failures, patiently
from gemmazero.hub_name import split_hub_name
from gemmazero.json_file import read_json

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
_WANTED = ("*.json", "*.safetensors", "*.jinja")
_UNWANTED = ("*/*", "checkpoint.json", "run.json")  # of a run's state, which is no model's


def fetch_model(name: str) -> Path:
    """The folder with the files of the model ``name``, ``user/name`` or ``user/name@revision``.

    The Hub says which commit that is and what its files hold; each is compared, and fetched again where it differs.
    In offline mode, and where the Hub cannot be reached, it is what the cache has of that revision.

    Raises:
        HubError: there is no such model, or it is not shown; the Hub cannot be reached and the cache has nothing.
    """
    repo, revision = split_hub_name(name)
    try:
        return patiently(lambda: _fetched(repo, revision), tries=3)
    except HubError as error:
        if error.kind in ("unreachable", "offline") and (cached := _cached(repo, revision)) is not None:
            if error.kind == "unreachable":
                logging.getLogger(__name__).warning("%s; the model in the Hub's cache is taken", error.message)
            return cached
        raise


def _fetched(repo: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi

    what = f'model "{repo}"'
    with hub_failures(what, revision):
        api = HfApi()
        sha = api.repo_info(repo, revision=revision).sha
    try:
        return _fetched_at(repo, revision, str(sha))
    except HubError as error:
        if error.kind == "absent":  # what was there a moment ago: somebody has squashed the branch
            raise HubError(f"{what} changed while it was read", "run the command again", kind="unreachable") from error
        raise


def _fetched_at(repo: str, revision: str | None, sha: str) -> Path:
    from huggingface_hub import HfApi

    what = f'model "{repo}"'
    with hub_failures(what, revision):
        folder = _snapshot(repo, revision, only_cached=False)
        if folder.name != sha:  # what the cache had before, in place of what the Hub did not give
            raise HubError(f"the Hub did not give {what}", "run the command again", kind="unreachable")
        for item in HfApi().list_repo_tree(repo, revision=sha):
            if hasattr(item, "blob_id") and (folder / item.path).is_file():
                download_listed(repo, sha, item)
    if not (folder / "config.json").is_file():
        hint = "a run's first push brings it; user/name@revision names another branch"
        raise HubError(f"the repository holds no model on {revision or 'main'} yet", hint)
    return folder


def _cached(repo: str, revision: str | None) -> Path | None:
    """The whole model that the cache has of that revision; None where it has none."""
    try:
        folder = _snapshot(repo, revision, only_cached=True)
        weights = {WEIGHTS}
        if not (folder / WEIGHTS).is_file():
            weights = set(read_json(folder / WEIGHTS_INDEX)["weight_map"].values())
        is_whole = all((folder / name).is_file() for name in ("config.json", "tokenizer.json", *weights))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ConfigError):
        return None  # the client tells of all that may lack as the first two; an index may be anything
    return folder if is_whole else None


def _snapshot(repo: str, revision: str | None, *, only_cached: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repo,
        revision=revision,
        allow_patterns=list(_WANTED),
        ignore_patterns=list(_UNWANTED),
        local_files_only=only_cached,
    )
    return Path(folder)
