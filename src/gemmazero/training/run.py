"""A run folder come alive: started or resumed, it wires data, trainer, checkpoints and record together."""

import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from gemmazero.data.events import PrepareEvent
from gemmazero.data.feed import Feed
from gemmazero.data.shards import TokenShards
from gemmazero.data.stream_source import StreamSource
from gemmazero.duration import seconds
from gemmazero.errors import CheckpointError, DataError, GemmaZeroError, HubError, MemoryShortageError, TrainingError
from gemmazero.folder import recover, recover_all, write_file
from gemmazero.hub import may_pass
from gemmazero.lock import clear_stale, locked
from gemmazero.run_config import RunConfig
from gemmazero.runtime import choose_device, environment, environment_changes, set_up
from gemmazero.storage.checkpoint import Checkpoint, TrainingState, list_checkpoints, step_of
from gemmazero.storage.checkpoints import Checkpoints
from gemmazero.storage.locate import CHECKPOINTS, LOCK_FILE, RUN_FILE, require_run_folder
from gemmazero.storage.restore import MARK
from gemmazero.training.data_folder import batches_of, tokenizer_of, unless_stopped
from gemmazero.training.events import Event, Finished, Rejected, Resumed, Saved, Started, Stopped, Uncompiled, Unsaved
from gemmazero.training.fitting import shortage_told
from gemmazero.training.guard import Guard, last_anchor
from gemmazero.training.loop import train
from gemmazero.training.mirroring import connected, mirrored, push_ended
from gemmazero.training.record import METRICS, Record, has_saved
from gemmazero.training.save_times import SaveTimes
from gemmazero.training.settings import Request, extended, extension_told, recorded, resolve, with_data
from gemmazero.training.starting import ended_before, starting_model, take_up
from gemmazero.training.stop import Stop
from gemmazero.training.streaming import data_of, stream_of
from gemmazero.training.throughput import flops_ceiling, forget_peak, free_memory
from gemmazero.training.trainer import Trainer
from gemmazero.training.validation import Validation


def running(request: Request, stop: Stop) -> Iterator[PrepareEvent | Event]:
    """All that happens to the run that was asked for, from its folder to its end; one that has ended says so.

    Raises:
        GemmaZeroError: something a user can mend stands in the way, another process in the folder for one.
    """
    folder, limit = request.folder, request.settings.get("max_time")
    if limit:
        stop.after(seconds(limit, option="--max-time"), f"--max-time {limit}")
    has_hub = bool(request.settings.get("hub_repo"))  # what it lacks is pushed even when all else is done
    if (ended := ended_before(request)) is not None and not has_hub:
        clear_stale(folder / LOCK_FILE)
        yield ended
        return
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f'"{folder}" exists and is not a run folder', "--out names another")
    is_new = not folder.exists()
    try:
        with locked(folder / LOCK_FILE, folder):
            try:
                link = yield from connected(request, stop)
            except HubError as error:
                if not (stop.reason and may_pass(error)):
                    raise
                yield Stopped(step=0, reason=stop.reason)
                return
            if link is not None and (ended := ended_before(request)) is not None:
                yield from push_ended(folder, link)
                yield ended
                return
            run = yield from Run.open(request, stop)
            if run is not None:
                yield from (run.events() if link is None else mirrored(run.events(), run.record, link, folder))
    finally:
        if is_new:  # and empty, where nothing came of the run
            with suppress(OSError):
                folder.rmdir()


class Run:
    """A run, ready to go on from ``checkpoint``, or from its first step. ``Run.open`` makes it."""

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        checkpoints: Checkpoints,
        checkpoint: Checkpoint | None,
        stop: Stop,
        stream: StreamSource | None,
    ) -> None:
        self.folder, self.config, self.checkpoints, self.stop = folder, config, checkpoints, stop
        data, settings, device = Path(config.data.folder), config.train, choose_device(config.train.device)
        set_up(settings.threads)
        forget_peak(device)
        self._free = free_memory(device)
        self.tokenizer = tokenizer_of(config)
        model = starting_model(config, checkpoint).to(device)
        feed = Feed(batches_of(config, stream), settings.batch_tokens, pinned=device.type == "cuda")
        ceiling = flops_ceiling(config.model, settings, device)
        curve_steps = config.curve_steps
        self.trainer = Trainer(model, feed, settings, device, curve_steps=curve_steps, flops_ceiling=ceiling)
        history = "" if checkpoint is None else take_up(self.trainer, checkpoint)
        self._write_config()
        self.record = Record(folder, history)
        self.guard = Guard(self.trainer, checkpoints, self.record, stop)
        self.validation = Validation(self.trainer, TokenShards(data, "validation"), settings, stop)
        self._saved = self._state_told
        self.save_times = SaveTimes(settings, config.curve_steps)
        self._unsaved: Unsaved | None = None
        self._is_behind = False

    @classmethod
    def open(cls, request: Request, stop: Stop) -> Generator[PrepareEvent | Event, None, Self | None]:
        """Start the run that was asked for, or go on with it; None where ``stop`` came while data was prepared.

        Raises:
            GemmaZeroError: data, settings and folder do not fit together, or no checkpoint is good.
        """
        folder = request.folder
        recover(folder / RUN_FILE)
        recover_all(folder / CHECKPOINTS)
        steps = [step_of(path) or 0 for path in list_checkpoints(folder / CHECKPOINTS)]
        is_known = (folder / RUN_FILE).is_file()
        require_run_folder(folder)
        if is_known and not steps and (has_saved(folder) or (folder / MARK).exists()):
            raise CheckpointError(f'the checkpoints of "{folder}" are gone', "bring them back; --out names a new run")
        goes_on = is_known and (request.resumes or bool(steps))  # before its first checkpoint it may begin anew
        before, told = recorded(request, folder / RUN_FILE) if goes_on else (None, ())
        stream = stream_of(request, before)
        data = yield from unless_stopped(data_of(request, before, stream), stop)
        if data is None:
            yield Stopped(step=max(steps, default=0), reason=stop.reason)
            return None
        config = resolve(request, data, stream) if before is None else with_data(before, data, stream)
        checkpoints = Checkpoints(folder, config)
        hold = SaveTimes(config.train, config.curve_steps).hold if request.extends(config) else 0
        checkpoint, passed_over = checkpoints.newest_good(hold or None)
        extension = ""
        if request.extends(config):
            config = extended(config, 0 if checkpoint is None else checkpoint.step, request.settings["steps"])
            checkpoints, extension = Checkpoints(folder, config), extension_told(config)
        run = cls(folder, config, checkpoints, checkpoint, stop, stream)
        for one in passed_over:
            yield run._tell(Rejected(step=one.step, checkpoint=one.folder, reason=one.reason))
        for event in run._confirm_best():
            yield run._tell(event)
        facts = run._facts()
        if before is None:
            yield run._tell(Started(**facts))
        else:
            known = None if checkpoint is None else checkpoint.record().get("environment")
            changes = environment_changes(known, run.trainer.device)
            yield run._tell(Resumed(**facts, changed=(*told, *changes), extension=extension))
        return run

    def events(self) -> Generator[Event, None, None]:
        """Train to the end, or until the wish to stop. Leaving early, or Ctrl-C between two updates, saves first.

        Raises:
            TrainingError: the numbers have gone wrong too often, or something could not be saved to the very end.
        """
        settings = self.config.train
        events = train(
            self.trainer,
            steps=settings.steps,
            validate_every=settings.validate_every,
            optimizer_step=self.guard.optimizer_step,
            validate=self.validation.part if self.validation.is_possible else None,
            is_save_due=lambda: self.save_times.is_due(self.trainer.step),
            save=self._save,
            finish=self._finish,
            stop=lambda: self.stop.reason,
            stopped=self._stopped,
        )
        try:
            with shortage_told(str(self.folder), self.config.model, settings, self._free):
                for event in events:
                    if isinstance(event, Uncompiled):
                        self.config = replace(self.config, train=self.trainer.config)
                        self._write_config()
                    yield self._tell(event)
                    if self.record.unwritten and not self._is_behind:
                        yield Unsaved(step=self.trainer.step, what=METRICS, reason=self.record.unwritten)
                    self._is_behind = bool(self.record.unwritten)
        except (GeneratorExit, KeyboardInterrupt, DataError, HubError, MemoryShortageError):
            if self.trainer.is_whole:
                self._save_what_was_left()
            raise
        finally:
            self.trainer.feed.close()
        if self.record.unwritten:
            self._unsaved = Unsaved(step=self.trainer.step, what=f"the end of {METRICS}", reason=self.record.unwritten)
            self._require_saved()

    def _write_config(self) -> None:
        write_file(self.folder / RUN_FILE, json.dumps(self.config.to_json(), indent=1) + "\n")

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
            self._require_saved()

    @property
    def _state_told(self) -> tuple[int, int, int]:
        """What changes with every change of the state that was told."""
        return self.record.step, self.record.validated_step, self.trainer.batch

    def _save(self) -> Saved | Unsaved:
        """Save a checkpoint; where it is the best one, say so in ``best.json``; let go of those no longer kept."""
        started, trainer = time.perf_counter(), self.trainer
        state = trainer.state_dict()
        state["record"] |= {
            "extensions": [asdict(extension) for extension in self.config.extensions],
            "environment": environment(trainer.device),
        }
        to_save = TrainingState(**state, history=self.record.history)
        try:
            checkpoint = self.checkpoints.save(trainer.step, trainer.model, self.tokenizer, to_save)
            if trainer.best is not None and trainer.best.step == trainer.step:
                self.checkpoints.name_best(trainer.best.step, trainer.best.loss)
        except GemmaZeroError as error:
            self.save_times.tried(saved=False)
            trainer.best = trainer.best_saved
            self._unsaved = Unsaved(step=trainer.step, what=f"the checkpoint of step {trainer.step}", reason=str(error))
            return self._unsaved
        self.save_times.tried(saved=True)
        trainer.best_saved, self._saved, self._unsaved = trainer.best, self._state_told, None
        with suppress(GemmaZeroError):  # what cannot be removed stays until the next time
            self.checkpoints.retain(keep=self.config.train.keep, always=self._kept)
        return Saved(step=trainer.step, checkpoint=checkpoint.folder, seconds=time.perf_counter() - started)

    @property
    def _kept(self) -> set[int]:
        """The steps whose checkpoints stay however old they are: what the run, or a longer one, may go back to."""
        best = None if self.trainer.best is None else self.trainer.best.step
        anchor, hold = last_anchor(self.trainer.step, self.config.train.validate_every), self.save_times.hold
        return {step for step in (best, anchor, hold, self.record.best_step(hold)) if step is not None}

    def _confirm_best(self) -> Iterator[Rejected]:
        """Name the best checkpoint, where a kill came before that; forget one that has been damaged since."""
        best = self.trainer.best
        if best is not None and (bad := self.checkpoints.confirm_best(best.step, best.loss)) is not None:
            self.trainer.best = self.trainer.best_saved = None
            yield Rejected(step=best.step, checkpoint=bad.folder, reason=bad.reason)

    def _finish(self) -> Finished | None:
        """Score the whole validation split, unless the last validation did, and say how the run ended."""
        self._require_saved()
        validated = self.validation.whole() if self.validation.is_possible else None
        if validated is None and self.validation.is_possible:
            return None
        return Finished(**self._so_far(), validation_loss=None if validated is None else validated.loss)

    def _stopped(self, reason: str) -> Stopped:
        self._require_saved()
        best = self.trainer.best
        return Stopped(**self._so_far(), validation_loss=None if best is None else best.loss, reason=reason)

    def _so_far(self) -> dict[str, Any]:
        trainer, best = self.trainer, self.trainer.best
        loss = None if math.isnan(trainer.loss) else trainer.loss
        return {"step": trainer.step, "loss": loss, "best_step": None if best is None else best.step}

    def _require_saved(self) -> None:
        """Raises TrainingError where the last save failed: the run must not end as if it had not."""
        if self._unsaved is not None:
            last = next((one.step for one in self.checkpoints.inspections() if not one.reason), None)
            until = "nothing is saved" if last is None else f"the last step that is saved is {last}"
            raise TrainingError(
                f"{self._unsaved.what} was not saved, {until}: {self._unsaved.reason}",
                f"make space on the disk, or mend what is said; then: gemmazero resume {self.folder}",
            )

    def _facts(self) -> dict[str, Any]:
        settings, trainer = self.config.train, self.trainer
        return {
            "step": trainer.step,
            "run": self.folder,
            "run_id": self.config.run_id,
            "steps": settings.steps,
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "tokens_per_step": settings.batch_tokens,
            "device": settings.device,
            "precision": settings.precision,
        }
