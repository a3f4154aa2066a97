"""A run and its repository on the Hub: what is there is gone on with, what is saved is pushed."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from gemmazero.data.shards import MANIFEST, Manifest
from gemmazero.errors import CheckpointError, GemmaZeroError, HubError, UsageError
from gemmazero.folder import recover
from gemmazero.hub import TRIES, Value, may_pass, patiently, seconds_to_wait
from gemmazero.hub_repo import HubRepo
from gemmazero.json_file import read_json
from gemmazero.run_config import RunConfig
from gemmazero.storage.checkpoint import list_checkpoints
from gemmazero.storage.checkpoints import Checkpoints
from gemmazero.storage.lineage import State
from gemmazero.storage.locate import CHECKPOINTS, RUN_FILE
from gemmazero.storage.mirror import HubMirror, Tried
from gemmazero.storage.push import Pusher, occupied
from gemmazero.storage.remote_state import RemoteState, look_at, state_in
from gemmazero.storage.restore import restore
from gemmazero.training.events import Delayed, Event, Fetched, Finished, Pushed, PushFailed, Saved, Stopped
from gemmazero.training.record import Record, has_saved
from gemmazero.training.settings import Request, changed, refuse_other_options
from gemmazero.training.stop import Stop

SECONDS_AT_THE_END = 600.0  # to push what is not on the Hub yet, once all steps are done
SECONDS_AT_A_STOP = 60.0  # whoever stops a run may not wait for long


@dataclass(frozen=True, kw_only=True)
class Link:
    """The repository of a run, once it was looked at.

    Args:
        pusher: pushes there.
        pushed_step: the step of the state that it holds, where it is the run's.
        unpushed: the newest checkpoint on the disk, where that is not there.
    """

    pusher: Pusher
    pushed_step: int | None = None
    unpushed: Path | None = None


def connected(request: Request, stop: Stop) -> Generator[Event, None, Link | None]:
    """Find out which state is the newest, the disk's or the Hub's, and bring that from the Hub; None without a Hub.

    With a run on the disk, a Hub that cannot be reached is told of, and the run goes on; what it holds is looked at
    before anything is pushed. Without one it is an error, as there may be a state to go on from.

    Raises:
        GemmaZeroError: ``stop`` came first, the repository holds another run, the two have parted, the Hub failed or
            refused, or holds something damaged.
    """
    folder = request.folder
    recover(folder / RUN_FILE)
    config = RunConfig.from_json(read_json(folder / RUN_FILE)) if (folder / RUN_FILE).is_file() else None
    name = request.settings.get("hub_repo") or (config.train.hub_repo if config else None)
    if name is None:
        return None
    repo, overwrites = HubRepo(name), bool(request.settings.get("hub_overwrite"))
    private = bool(request.settings.get("hub_private") or (config and config.train.hub_private))
    pusher = Pusher(repo, private=private, overwrites=overwrites)
    checkpoint, local = _newest_here(folder, config)
    is_its = config is not None and (not request.by_hub_name or config.train.hub_repo == name)
    try:
        remote = yield from _patiently(lambda: look_at(repo), stop)
        if remote is None and request.resumes and not is_its:
            hint = f"gemmazero train --hub-repo {name} begins a run"
            raise CheckpointError(f"{repo} holds no state to go on from", hint)
        if remote is None:
            yield from _patiently(lambda: pusher.claim(config.run_id if config else None), stop)
        yield from _patiently(pusher.require_private, stop)
    except HubError as error:
        if not is_its or error.kind not in ("unreachable", "offline"):
            raise
        yield _failed(repo, Tried(step=local.step if local else 0, reason=error.message, retry_seconds=0.0))
        return Link(pusher=pusher, unpushed=checkpoint)
    if request.by_hub_name and remote is not None and config is not None:
        _require_same_run(remote, config, folder)
    if remote is None or not _is_to_be_fetched(remote, config, local, request, overwrites):
        is_there = remote is not None and local is not None and remote.state.comes_after(local)
        return Link(
            pusher=pusher,
            pushed_step=remote.state.step if remote and local and local.comes_after(remote.state) else None,
            unpushed=None if is_there else checkpoint,
        )
    started = time.monotonic()
    remote = _fetch(remote, folder)
    yield Fetched(step=remote.state.step, repo=name, seconds=time.monotonic() - started)
    return Link(pusher=pusher, pushed_step=remote.state.step)


def _patiently(action: Callable[[], Value], stop: Stop) -> Generator[Event, None, Value]:
    """``patiently``, which tells of each wait; the wish to stop ends it, and the last try's HubError is raised."""
    for failed in range(1, TRIES):
        try:
            return action()
        except HubError as error:
            if not may_pass(error):
                raise
            seconds = seconds_to_wait(error, failed)
            yield Delayed(step=0, reason=error.message, seconds=seconds)
            end = time.monotonic() + seconds
            while not stop.reason and time.monotonic() < end:
                time.sleep(0.1)
            if stop.reason:
                raise
    return action()


def mirrored(events: Generator[Event, None, None], record: Record, link: Link, run: Path) -> Iterator[Event]:
    """``events`` of ``run``; each state that is saved is pushed meanwhile, and before the end the last one.

    So it is where an error ends the run, or its loop is left: then nobody is told of what became of that. Where nothing
    was saved, what was brought from the Hub may lack its model on main: the machine before may have been lost halfway.
    """
    mirror, newest = HubMirror(link.pusher, run, link.pushed_step), list_checkpoints(run / CHECKPOINTS)[-1:]
    brought, is_over = newest if link.unpushed is None else [], False
    if link.unpushed is not None:
        mirror.offer(link.unpushed)
    try:
        with closing(events):
            for event in events:
                if isinstance(event, Saved):
                    mirror.offer(event.checkpoint)
                    newest, brought = [event.checkpoint], []
                if isinstance(event, Finished | Stopped):  # it stands in the record already, and is the last there
                    for checkpoint in brought:
                        mirror.offer(checkpoint)
                    is_end = isinstance(event, Finished)
                    yield from _drained(mirror, link, SECONDS_AT_THE_END if is_end else SECONDS_AT_A_STOP)
                    is_over = True
                yield event
                for tried in () if is_over else mirror.told():
                    told = _told(link.pusher.repo, tried)
                    record.write(told)
                    yield told
    except (GemmaZeroError, GeneratorExit) as error:
        saved = list_checkpoints(run / CHECKPOINTS)[-1:]  # perhaps just now, and not told of
        if saved and saved != newest:
            mirror.offer(saved[0])
        drained = _drained(mirror, link, SECONDS_AT_A_STOP)
        if isinstance(error, GemmaZeroError):
            yield from drained
        deque(drained, maxlen=0)
        raise
    finally:
        mirror.close()


def push_ended(run: Path, link: Link) -> Iterator[Event]:
    """Push what the Hub lacks of a run that has ended."""
    config = RunConfig.from_json(read_json(run / RUN_FILE))
    checkpoint, _ = _newest_here(run, config)
    if checkpoint is not None:
        mirror = HubMirror(link.pusher, run, link.pushed_step)
        try:
            mirror.offer(checkpoint)
            yield from _drained(mirror, link, SECONDS_AT_THE_END)
        finally:
            mirror.close()


def _newest_here(folder: Path, config: RunConfig | None) -> tuple[Path | None, State | None]:
    """The newest good checkpoint on the disk; none where none is good, which opening the run tells of."""
    if config is not None:
        with suppress(CheckpointError):
            checkpoint, _ = Checkpoints(folder, config).newest_good()
            if checkpoint is not None:
                return checkpoint.folder, state_in(checkpoint.folder, config)
    return None, None


def _is_to_be_fetched(
    remote: RemoteState, config: RunConfig | None, local: State | None, request: Request, overwrites: bool
) -> bool:
    """Whether the Hub's state is the one to go on from. Raises HubError where one of the two would be lost.

    The disk may hold a run, ``config``, without a ``local`` state that is good: it is no less another run for that,
    unless it never saved anything.
    """
    has_state = bool(list_checkpoints(request.folder / CHECKPOINTS)) or has_saved(request.folder)
    if config is not None and has_state and config.run_id != remote.state.config.run_id:
        if overwrites:
            return False
        raise occupied(remote.repo, f"{remote.state} and not {local or f'run {config.run_id}'}")
    if local is None:
        try:
            _require_the_run(request, remote.state.config)
        except UsageError as error:
            if overwrites:
                return False
            reason = f"It is not the run that was asked for: {error.message}"
            raise occupied(remote.repo, str(remote.state), reason) from error
        return True
    if local.comes_after(remote.state):
        return False
    if remote.state.comes_after(local):
        return True
    if overwrites:
        return False
    hint = "a folder without the run goes on with the Hub's"
    raise HubError(
        f"this disk holds {local}, {remote.repo} holds {remote.state}, and neither leads to the other",
        hint if request.by_hub_name else f"{hint}; --hub-overwrite goes on with the disk's, and loses that",
        kind="conflict",
    )


def _require_same_run(remote: RemoteState, config: RunConfig, folder: Path) -> None:
    """Raises CheckpointError where the folder for the run that the Hub holds has another one in it."""
    if remote.state.config.run_id != config.run_id:
        raise CheckpointError(
            f'{remote.repo} holds {remote.state}, and "{folder}", where it would go, the run {config.run_id}',
            f'move "{folder}" away, or run the command in another folder: nothing was changed',
        )


def _require_the_run(request: Request, config: RunConfig) -> None:
    """Raises UsageError where ``config`` is not of the run that was asked for."""
    request.refuse_another_model(config)
    refuse_other_options(config, request.options)
    changed(config.train, request.settings, resumes=request.resumes)
    if request.data is None or request.resumes:
        return
    data = Path(request.data)
    if (data / MANIFEST).is_file():
        is_same = Manifest.read(data).digest == config.data.manifest_digest
    else:
        is_same = data.name in (Path(config.data.source).name, Path(config.data.folder).name)
    if not is_same:
        raise UsageError(f'its data is "{config.data.source}", and not "{request.data}"')


def _fetch(remote: RemoteState, folder: Path) -> RemoteState:
    """Restore the state, or the one that has taken its place meanwhile."""
    repo = remote.repo
    for _ in range(TRIES):
        try:
            restore(remote, folder)
            return remote
        except HubError as error:
            newer = patiently(lambda: look_at(repo)) if error.kind == "absent" else None
            if newer is None:
                raise
            remote = newer
    raise HubError(f"{repo} changes faster than it can be read", "stop the machine that trains there")


def _drained(mirror: HubMirror, link: Link, seconds: float) -> Iterator[Event]:
    for tried in mirror.drain(seconds):
        yield _told(link.pusher.repo, tried)


def _told(repo: HubRepo, tried: Tried) -> Pushed | PushFailed:
    if tried.reason:
        return _failed(repo, tried)
    return Pushed(step=tried.step, repo=repo.name, seconds=tried.seconds)


def _failed(repo: HubRepo, tried: Tried) -> PushFailed:
    return PushFailed(
        step=tried.step,
        repo=repo.name,
        reason=tried.reason,
        hint=tried.hint,
        pushed_step=tried.pushed_step,
        behind_seconds=tried.behind_seconds,
        retry_seconds=tried.retry_seconds,
    )
