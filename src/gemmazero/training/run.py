"""A run folder come alive: started or resumed, it wires data, trainer, checkpoints and record together."""

import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from gemmazero.config import RunConfig, read_json
from gemmazero.data.batches import Batches, choose_windows
from gemmazero.data.prepare import PrepareEvent
from gemmazero.data.shards import Manifest, TokenShards
from gemmazero.data.tokenizer import Tokenizer
from gemmazero.errors import CheckpointError, DataError
from gemmazero.evaluation.perplexity import evaluate, window_count
from gemmazero.folder import claimed, recover_all, write_file
from gemmazero.model.gemma import Gemma
from gemmazero.runtime import choose_device, set_up
from gemmazero.storage.checkpoint import (
    Checkpoint,
    TrainingState,
    checkpoint_folder,
    list_checkpoints,
    retain,
    save_checkpoint,
)
from gemmazero.storage.locate import BEST_FILE, CHECKPOINTS, RUN_FILE
from gemmazero.storage.model_folder import load_model, save_model
from gemmazero.training.data_folder import prepared, prepared_again
from gemmazero.training.events import Event, Finished, Resumed, Saved, Started, Stopped, Validated
from gemmazero.training.loop import train
from gemmazero.training.record import Record, finished
from gemmazero.training.settings import Request, changed, resolve
from gemmazero.training.stop import Stop
from gemmazero.training.trainer import Best, Trainer


def running(request: Request, stop: Stop) -> Iterator[PrepareEvent | Event]:
    """All that happens to the run that was asked for, from its folder to its end; one that has ended says so.

    Raises:
        GemmaZeroError: something a user can mend stands in the way, another process in the folder for one.
    """
    folder = request.folder
    if (folder / RUN_FILE).is_file() and (ended := finished(folder)) is not None:
        config = RunConfig.from_json(read_json(folder / RUN_FILE))
        request.refuse_another_model(config)
        changed(config.train, request.settings)
        yield ended
        return
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f'"{folder}" exists and is not a run folder', "--out names another")
    with claimed(folder):
        try:
            run = yield from Run.open(request)
            yield from run.events(stop)
        finally:
            with suppress(OSError):  # it stays unless it is empty: nothing came of the run
                folder.rmdir()


class Run:
    """A run, ready to go on from ``checkpoint``, or from its first step. ``Run.open`` makes it."""

    def __init__(self, folder: Path, config: RunConfig, checkpoint: Checkpoint | None) -> None:
        self.folder = folder
        self.config = config
        data, settings = Path(config.data.folder), config.train
        set_up(settings.threads)
        self.tokenizer = Tokenizer.load(data)
        self.validation = TokenShards(data, "validation")
        batches = Batches(
            TokenShards(data, "train"),
            batch_size=settings.batch_size,
            sequence_length=settings.sequence_length,
            seed=settings.seed,
        )
        model = _model(config, checkpoint).to(choose_device(settings.device))
        self.trainer = Trainer(model, batches, settings, choose_device(settings.device))
        self._validation_windows = self._choose_validation_windows()
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / RUN_FILE, json.dumps(config.to_json(), indent=1) + "\n")
        if checkpoint is None:
            self.record = Record(folder)
        else:
            state = checkpoint.training_state()
            self.trainer.load_state_dict({"tensors": state.tensors, "record": state.record})
            self.record = Record(folder, state.history)
        self._name_best()
        self._saved = self._state_told
        self._validated: Validated | None = None

    @classmethod
    def open(cls, request: Request) -> Generator[PrepareEvent | Event, None, Self]:
        """Start the run that was asked for, or go on with it where its folder holds it; yields the facts of doing so.

        Raises:
            GemmaZeroError: data, settings and folder do not fit together, or the newest checkpoint is damaged.
        """
        folder = request.folder
        recover_all(folder / CHECKPOINTS)
        checkpoints = list_checkpoints(folder / CHECKPOINTS)
        is_known = (folder / RUN_FILE).is_file()
        goes_on = is_known and (request.resumes or bool(checkpoints))  # before its first checkpoint it may begin anew
        if goes_on:
            config, told = yield from _recorded(request)
        elif any(folder.iterdir()) and not is_known:
            raise CheckpointError(f'"{folder}" exists and is not a run folder', "--out names another")
        else:
            config, told = resolve(request, (yield from prepared(request.source))), ()
        checkpoint = Checkpoint.open(checkpoints[-1]) if checkpoints else None
        if checkpoint is not None:
            checkpoint.verify()
            if checkpoint.run_id != config.run_id:
                raise CheckpointError(f'"{checkpoint.folder}" belongs to another run than "{folder}"', "move it away")
        run = cls(folder, config, checkpoint)
        facts = run._facts()
        yield run._tell(Resumed(**facts, changed=told) if goes_on else Started(**facts))
        return run

    def events(self, stop: Stop) -> Iterator[Event]:
        """Train to the end, or until ``stop`` is set. Leaving early, or Ctrl-C between two updates, saves first."""
        settings = self.config.train
        events = train(
            self.trainer,
            steps=settings.steps,
            validate_every=settings.validate_every,
            save_every=settings.save_every,
            validate=self._validate,
            save=self._save,
            finish=self._finish,
            stop=lambda: stop.reason,
            stopped=self._stopped,
        )
        try:
            for event in events:
                yield self._tell(event)
        except (GeneratorExit, KeyboardInterrupt):
            if self.trainer.is_whole:
                self._save_what_was_left()
            raise

    def _tell(self, event: Event) -> Event:
        self.record.write(event)
        return event

    def _save_what_was_left(self) -> None:
        """Save where something is not; a step or a validation that was done and not told of is told, or owed again."""
        trainer = self.trainer
        if trainer.stepped is not None and self.record.step < trainer.step:
            self._tell(trainer.stepped)
        trainer.validated_step = min(trainer.validated_step, self.record.validated_step)
        if self._saved != self._state_told:
            self._tell(self._save())

    @property
    def _state_told(self) -> tuple[int, int]:
        return self.record.step, self.record.validated_step

    def _validate(self) -> Validated | None:
        """Score the fixed part of the validation split; None where the run has none."""
        if not self._validation_windows:
            return None
        validated = self._score(self._validation_windows, best=True)
        if validated.best:
            self.trainer.best = Best(step=validated.step, loss=validated.loss)
        return validated

    def _score(self, windows: Sequence[int], *, best: bool) -> Validated:
        started = time.perf_counter()
        length = self.config.train.sequence_length
        evaluation = evaluate(
            self.trainer.model, self.validation, sequence_length=length, windows=windows,
            autocast=self.trainer.precision.autocast,
        )  # fmt: skip
        so_far = self.trainer.best
        self._validated = Validated(
            step=self.trainer.step,
            loss=evaluation.loss,
            tokens=evaluation.tokens,
            best=best and (so_far is None or evaluation.loss < so_far.loss or so_far.step == self.trainer.step),
            whole=len(windows) == window_count(self.validation, length),
            seconds=time.perf_counter() - started,
        )
        return self._validated

    def _save(self) -> Saved:
        """Save a checkpoint; where it is the best one, say so in ``best.json``; let go of those no longer kept."""
        started = time.perf_counter()
        trainer, checkpoints = self.trainer, self.folder / CHECKPOINTS
        checkpoint = save_checkpoint(
            checkpoints,
            step=trainer.step,
            run_id=self.config.run_id,
            write_model=partial(save_model, trainer.model, self.tokenizer),
            state=TrainingState(**trainer.state_dict(), history=self.record.history),
        )
        self._name_best()
        retain(checkpoints, keep=self.config.train.keep, best_step=trainer.best.step if trainer.best else None)
        self._saved = self._state_told
        return Saved(step=trainer.step, checkpoint=checkpoint.folder, seconds=time.perf_counter() - started)

    def _name_best(self) -> None:
        """Say in ``best.json`` which checkpoint is the best, once that is there."""
        best = self.trainer.best
        if best is not None and (folder := checkpoint_folder(self.folder / CHECKPOINTS, best.step)).is_dir():
            record = {"checkpoint": folder.name, "step": best.step, "validation_loss": best.loss}
            write_file(self.folder / BEST_FILE, json.dumps(record) + "\n")

    def _finish(self) -> Finished:
        """Score the whole validation split, unless the last validation did, and say how the run ended."""
        if self._validation_windows and not (self._validated and self._validated.whole):
            self._score(range(window_count(self.validation, self.config.train.sequence_length)), best=False)
        trainer = self.trainer
        return Finished(
            step=trainer.step,
            loss=trainer.loss,
            validation_loss=None if self._validated is None else self._validated.loss,
            best_step=None if trainer.best is None else trainer.best.step,
        )

    def _choose_validation_windows(self) -> list[int]:
        """The same windows at every validation, ``validation_tokens`` of them; none where there is no text."""
        if len(self.validation) < 2:
            return []
        settings = self.config.train
        size = window_count(self.validation, settings.sequence_length)
        count = -(-settings.validation_tokens // settings.sequence_length) or size
        return choose_windows(size, min(count, size), settings.seed)

    def _stopped(self, reason: str) -> Stopped:
        trainer, best = self.trainer, self.trainer.best
        return Stopped(
            step=trainer.step,
            loss=None if trainer.step == 0 else trainer.loss,
            validation_loss=None if best is None else best.loss,
            best_step=None if best is None else best.step,
            reason=reason,
        )

    def _facts(self) -> dict[str, Any]:
        settings, trainer = self.config.train, self.trainer
        return {
            "step": trainer.step,
            "run": self.folder,
            "run_id": self.config.run_id,
            "steps": settings.steps,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "tokens_per_step": settings.batch_size * settings.sequence_length,
            "device": settings.device,
            "precision": settings.precision,
        }


def _model(config: RunConfig, checkpoint: Checkpoint | None) -> Gemma:
    """The checkpoint's weights; without one, those that the run starts from."""
    torch.manual_seed(config.train.seed)
    if checkpoint is not None:
        return load_model(checkpoint.folder, device="cpu", dtype=torch.float32)
    if config.init is not None:
        return load_model(Path(config.init), device="cpu", dtype=torch.float32)
    model = Gemma(config.model)
    model.initialize(torch.Generator().manual_seed(config.train.seed))
    return model


def _recorded(request: Request) -> Generator[PrepareEvent, None, tuple[RunConfig, tuple[str, ...]]]:
    """The configuration of the run in ``request.folder`` with what was given anew, and what of that changed."""
    config = RunConfig.from_json(read_json(request.folder / RUN_FILE))
    request.refuse_another_model(config)
    settings, told = changed(config.train, request.settings)
    data = yield from prepared_again(request.data, config.data)
    digest = Manifest.read(data).digest
    if digest != config.data.manifest_digest:
        raise DataError(
            f'"{data}" does not hold the data that the run began with',
            f"it began with {config.data.source}; see {RUN_FILE}",
        )
    return replace(config, train=settings, data=replace(config.data, folder=str(data))), told
