"""MODEL → the folder it is in: a run, a checkpoint, any transformers Gemma folder, on this disk or on the Hub."""

from contextlib import suppress
from pathlib import Path

from gemmazero.config import RUNS
from gemmazero.errors import CheckpointError, ConfigError, HubError
from gemmazero.hub_model import fetch_model
from gemmazero.hub_name import is_hub_name
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import MANIFEST, Checkpoint, list_checkpoints

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
STREAM = "stream"  # the beginning of a streamed source
BEST_FILE = "best.json"
CHECKPOINTS = "checkpoints"

_START = "gemmazero train --preset nano --data sample"


def locate_model(name: str | Path | None) -> Path:
    """The model folder that ``name`` means; left out, that of the newest run under ``runs/``.

    The model's files in a checkpoint are verified. A name that is no folder here may be one on the Hub.

    Raises:
        CheckpointError: there is none, or it is damaged.
        HubError: it is not here, and the Hub knows none, does not show it, or could not be reached.
    """
    folder = _named(name)
    if (folder / MANIFEST).exists() or run_of(folder) is not None:
        Checkpoint.open(folder).verify(training=False)
    return folder


def best_checkpoint(run: Path) -> Path:
    """A run's best checkpoint by validation loss; where none is named, its newest whose model is undamaged.

    Raises:
        CheckpointError: it has no checkpoint yet.
    """
    checkpoints = list_checkpoints(run / CHECKPOINTS)
    if not checkpoints:
        raise CheckpointError(f'the run "{run}" has no checkpoint yet', f"gemmazero resume {run}")
    try:
        best = run / CHECKPOINTS / Path(read_json(run / BEST_FILE)["checkpoint"]).name
    except (ConfigError, KeyError, TypeError):
        best = run
    if best in checkpoints:
        return best
    return next((checkpoint for checkpoint in reversed(checkpoints) if _is_sound(checkpoint)), checkpoints[-1])


def newest_run(*, with_checkpoint: bool = False) -> Path:
    """The run under ``runs/`` that saved last, or, where none has saved, that was started last.

    Raises:
        CheckpointError: there is none.
    """
    found = {path.parent: list_checkpoints(path.parent / CHECKPOINTS) for path in RUNS.glob(f"*/{RUN_FILE}")}
    if with_checkpoint:
        found = {run: checkpoints for run, checkpoints in found.items() if checkpoints}
    if not found:
        raise CheckpointError('no run under "runs/"', _START)
    return max(found, key=lambda run: (bool(found[run]), (found[run] or [run / RUN_FILE])[-1].stat().st_mtime))


def run_from_hub(name: str) -> Path:
    """Where the run that the Hub's repository ``name`` holds is on this disk, or would be."""
    for file in sorted(RUNS.glob(f"*/{RUN_FILE}")):
        with suppress(ConfigError):
            if RunConfig.from_json(read_json(file)).train.hub_repo == name:
                return file.parent
    return RUNS / name.split("/")[1]


def require_run_folder(folder: Path) -> None:
    """Raises CheckpointError where ``folder`` is no run's and holds more than one does before it begins."""
    if not (folder / RUN_FILE).is_file() and {path.name for path in folder.iterdir()} - {LOCK_FILE, STREAM}:
        raise CheckpointError(f'"{folder}" exists and is not a run folder', "--out names another, or move it away")


def run_of(model: Path) -> Path | None:
    """The run folder that a checkpoint folder belongs to; None for any other model."""
    run = model.resolve().parent.parent
    return run if model.resolve().parent.name == CHECKPOINTS and (run / RUN_FILE).is_file() else None


def _named(name: str | Path | None) -> Path:
    if name is None:
        return best_checkpoint(newest_run(with_checkpoint=True))
    folder = Path(name)
    if not folder.exists():
        if is_hub_name(str(name)):
            return _from_hub(str(name))
        raise CheckpointError(f'no such model: "{name}"', "name a run folder, a checkpoint folder or a model folder")
    if (folder / RUN_FILE).is_file():
        return best_checkpoint(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f'"{name}" is neither a run nor a model folder', f"it has no {RUN_FILE} and no config.json"
        )
    return folder


def _from_hub(name: str) -> Path:
    try:
        return fetch_model(name)
    except HubError as error:
        raise error.reworded(f'no folder "{name}" here, and {error.message}', error.hint) from error


def _is_sound(folder: Path) -> bool:
    try:
        Checkpoint.open(folder).verify(training=False)
    except CheckpointError:
        return False
    return True
