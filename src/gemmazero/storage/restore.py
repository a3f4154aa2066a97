"""The state that the Hub holds → a run folder on this disk, whole or not at all."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gemmazero.data.hub_tokenizer import is_from_file
from gemmazero.data.tokenizer import TOKENIZER_FILES
from gemmazero.errors import CheckpointError, ConfigError
from gemmazero.folder import discard, recover_all, require_space, whole_folder, write_file
from gemmazero.hub_content import Content
from gemmazero.hub_repo import ATTRIBUTES
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import MANIFEST, Checkpoint, checkpoint_folder, list_checkpoints, step_of
from gemmazero.storage.lineage import State
from gemmazero.storage.locate import CHECKPOINTS, RUN_FILE, require_run_folder
from gemmazero.storage.remote_state import BEST, RemoteState, damaged

TOKENIZER = "tokenizer"  # in the run folder
MARK = ".from-hub"  # there while a state is brought, until all of it is there
DATA = Path("data")  # where a run from elsewhere looks for its data, and prepares it again


def restore(remote: RemoteState, run: Path) -> None:
    """Bring the state, and the best checkpoint that goes with it, into ``run``; later checkpoints there go.

    Every file is verified, by its sum on the Hub and by the checkpoint's manifest. ``run.json`` comes last, and until
    then a mark says that the folder is no run that could begin anew.

    Raises:
        HubError: the Hub failed, or holds something damaged.
        CheckpointError: the folder holds something, and is no run's; nothing was changed.
        GemmaZeroError: the disk is full, or refuses.
    """
    parent, mark = run / CHECKPOINTS, run / MARK
    if not mark.exists():
        require_run_folder(run)
        mark.touch()
    recover_all(parent)
    require_space(run, sum(content.size for content in remote.files.values()))
    if f"{BEST}/{MANIFEST}" in remote.files:
        _bring(remote, f"{BEST}/", parent)
    _bring(remote, "", parent)
    for folder in reversed(list_checkpoints(parent)):
        if (step_of(folder) or 0) > remote.state.step:
            discard(folder)
    _keep_tokenizer(remote.state, run)
    config = with_local_data(remote.state.config, run)
    write_file(run / RUN_FILE, json.dumps(config.to_json(), indent=1) + "\n")
    mark.unlink()


def with_local_data(config: RunConfig, run: Path) -> RunConfig:
    """The run with its data where it was last on this machine, or where it would be prepared here."""
    folder, stream = str((DATA / Path(config.data.folder).name).absolute()), config.data.stream
    options = dict(config.data.options)
    if (own := _own_tokenizer(config, run)).exists():
        options["tokenizer"] = str(own.absolute())
    with suppress(ConfigError):
        here = RunConfig.from_json(read_json(run / RUN_FILE)).data
        folder, stream = here.folder, stream and (here.stream or stream)
    data = dataclasses.replace(config.data, folder=folder, stream=stream, options=options)
    return dataclasses.replace(config, data=data)


def _own_tokenizer(config: RunConfig, run: Path) -> Path:
    """Where a run that was brought here keeps the tokenizer that its data is prepared with."""
    return run / TOKENIZER / Path(str(config.data.options.get("tokenizer"))).name


def _keep_tokenizer(state: State, run: Path) -> None:
    """Set the checkpoint's tokenizer aside, where it was made from a file that only the machine before had."""
    if not is_from_file(str(state.config.data.options.get("tokenizer") or "")):
        return
    name = _own_tokenizer(state.config, run).name
    with whole_folder(run / TOKENIZER) as folder:
        is_file = name.endswith(".json")  # as it was: the name is in the data's digest
        place = folder / name if is_file else folder / name / TOKENIZER_FILES[0]
        place.parent.mkdir(exist_ok=True)
        for file in TOKENIZER_FILES:
            content = (checkpoint_folder(run / CHECKPOINTS, state.step) / file).read_bytes()
            (place if file == TOKENIZER_FILES[0] else place.with_name(file)).write_bytes(content)


def _bring(remote: RemoteState, prefix: str, parent: Path) -> None:
    """The checkpoint whose paths begin with ``prefix``, as a folder under ``parent``, where it is not there."""
    files = _files_of_checkpoint(remote.files, prefix)
    manifest = remote.files[prefix + MANIFEST]
    step = remote.state.step if not prefix else _step_of_best(remote, manifest)
    final = checkpoint_folder(parent, step)
    if _is_there(final, manifest):
        return
    try:
        with whole_folder(final) as folder:
            remote.repo.download(remote.sha, files, folder)
            if prefix:
                for path in (folder / prefix).iterdir():
                    path.rename(folder / path.name)
                (folder / prefix).rmdir()
            checkpoint = Checkpoint.open(folder)
            checkpoint.verify()
            if (checkpoint.run_id, checkpoint.step) != (remote.state.config.run_id, step):
                raise CheckpointError(f'"{folder}" is of another run or step')
    except CheckpointError as error:
        raise damaged(remote.repo, error.message.replace(str(folder), BEST if prefix else final.name)) from error


def _files_of_checkpoint(files: Mapping[str, Content], prefix: str) -> dict[str, Content]:
    strangers = (ATTRIBUTES, RUN_FILE)
    if prefix:
        return {path: content for path, content in files.items() if path.startswith(prefix)}
    return {path: one for path, one in files.items() if path not in strangers and not path.startswith(f"{BEST}/")}


def _step_of_best(remote: RemoteState, manifest: Content) -> int:
    with tempfile.TemporaryDirectory(prefix="gemmazero-") as name:
        remote.repo.download(remote.sha, {f"{BEST}/{MANIFEST}": manifest}, Path(name))
        try:
            return Checkpoint.open(Path(name, BEST)).step
        except CheckpointError as error:
            raise damaged(remote.repo, error.message.replace(f"{name}/", "")) from error


def _is_there(folder: Path, manifest: Content) -> bool:
    """Whether the checkpoint with that manifest is on the disk, undamaged."""
    try:
        if not Content.of_file(folder / MANIFEST).matches(manifest):
            return False
        Checkpoint.open(folder).verify()
    except (OSError, CheckpointError):
        return False
    return True
