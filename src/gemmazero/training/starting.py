"""Where a run starts from: the weights of its beginning, or a checkpoint's; or that it has ended before."""

from contextlib import suppress
from pathlib import Path

import torch

from gemmazero.errors import CheckpointError
from gemmazero.model.gemma import Gemma
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import Checkpoint
from gemmazero.storage.checkpoints import Checkpoints
from gemmazero.storage.locate import RUN_FILE
from gemmazero.storage.model_folder import load_model
from gemmazero.training.events import Finished
from gemmazero.training.record import finished
from gemmazero.training.settings import Request, recorded
from gemmazero.training.trainer import Trainer


def starting_model(config: RunConfig, checkpoint: Checkpoint | None) -> Gemma:
    """The checkpoint's weights; without one, those that the run starts from."""
    torch.manual_seed(config.train.seed)
    if checkpoint is not None or config.init is not None:
        folder = Path(config.init or "") if checkpoint is None else checkpoint.folder
        return load_model(folder, device="cpu", dtype=torch.float32)
    model = Gemma(config.model)
    model.initialize(torch.Generator().manual_seed(config.train.seed))
    return model


def take_up(trainer: Trainer, checkpoint: Checkpoint) -> str:
    """Put the trainer where the checkpoint stands; returns the run's history. Raises CheckpointError."""
    state = checkpoint.training_state()
    try:
        trainer.load_state_dict({"tensors": state.tensors, "record": state.record})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f'the training state in "{checkpoint.folder}" does not fit: {error}') from error
    return state.history


def ended_before(request: Request) -> Finished | None:
    """How the run that was asked for ended; None where it has not, its last checkpoint is bad, or it is to go on."""
    folder = request.folder
    if not (folder / RUN_FILE).is_file() or (ended := finished(folder)) is None:
        return None
    config, _ = recorded(request, folder / RUN_FILE)
    if ended.step != config.train.steps or request.extends(config):
        return None
    with suppress(CheckpointError):  # none is good, which opening the run tells of
        newest, _ = Checkpoints(folder, config).newest_good()
        return ended if newest is not None and newest.step == ended.step else None
    return None
