"""A disk that is full, read-only or broken: nothing saved is lost, training goes on, and what is not saved is told."""

import errno
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from crash.remains import damages, newest_step
from file_operations import intercepted
from full_disk import fill, mounted
from gemmazero.cli.explain import explain
from gemmazero.errors import GemmaZeroError
from gemmazero.training.events import Rejected, Resumed, Saved, Started, Stepped, Unsaved
from gemmazero.training.record import METRICS
from gemmazero.training.run import running
from gemmazero.training.settings import Request
from gemmazero.training.stop import Stop
from outcome import differences, outcome
from tiny_run import SETTINGS, train

TWO_SAVES = SETTINGS | {"steps": 4, "validate_every": 2, "keep": 1}
MANY_SAVES = SETTINGS | {"steps": 8, "validate_every": 4, "save_every": 1, "keep": 99}
CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
STRIDE = 41  # of the places that are tried here; `make test-slow` tries all

Refuses = Callable[[int, str, Path], bool]  # the number of an operation, from 0; its name; its path
RequestOf = Callable[..., Request]


@dataclass
class Session:
    """A process's share of a run: what was told, the error that ended it, the file operations it came to."""

    folder: Path
    events: list[Any] = field(default_factory=list)
    error: GemmaZeroError | OSError | None = None
    operations: list[tuple[str, str]] = field(default_factory=list)

    @property
    def unsaved(self) -> list[str]:
        return [event.what for event in self.events if isinstance(event, Unsaved)]

    @property
    def has_begun(self) -> bool:
        return any(isinstance(event, Started | Resumed) for event in self.events)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what costs the most here and decides nothing: waiting for the disk, and drawing."""

    def draw(figure: Figure, file: Any, **options: Any) -> None:
        file.write(bytes(5000))

    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(Figure, "savefig", draw)


@pytest.fixture
def request_of(tiny_data: Path, tiny_preset: Path, tmp_path: Path) -> RequestOf:
    def make(name: str = "run", **settings: Any) -> Request:
        wanted = TWO_SAVES | settings
        return Request(out=tmp_path / name, preset=str(tiny_preset), data=str(tiny_data), settings=wanted)

    return make


@pytest.fixture(scope="session")
def well(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The run on a disk that refuses nothing."""
    run = tmp_path_factory.mktemp("disk") / "run"
    ended = session(Request(out=run, preset=str(tiny_preset), data=str(tiny_data), settings=TWO_SAVES))
    assert told(ended.events) == (
        "started0 stepped1 stepped2 validated2 saved2 stepped3 stepped4 validated4 saved4 finished4"
    )
    assert {operation for operation, _ in ended.operations} == {
        "mkdir", "open", "write", "torn write", "truncate", "fsync", "chmod", "rename", "replace", "unlink", "rmdir",
    }  # fmt: skip
    return ended


@pytest.fixture(scope="session")
def straight(well: Session) -> dict[str, Any]:
    return outcome(well.folder)


@pytest.fixture(scope="session")
def straight_of_many(tiny_data: Path, tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("disk") / "many"
    train(Request(out=run, preset=str(tiny_preset), data=str(tiny_data), settings=MANY_SAVES))
    return outcome(run)


def told(events: Sequence[Any]) -> str:
    return " ".join(f"{type(event).__name__.lower()}{event.step}" for event in events)


def session(
    request: Request, refuses: Refuses = lambda *_: False, code: int = errno.EIO, *, reads: bool = False,
    after: Callable[[Any], object] = lambda _: None,
) -> Session:  # fmt: skip
    """Go on with a run, on a disk that refuses some operations; those that read are counted where ``reads``.

    ``after`` is called with each event. Whatever happens, no checkpoint is ever damaged.
    """
    ended = Session(request.folder)

    def refuse(operation: str, path: Path) -> None:
        ended.operations.append((operation, path.relative_to(request.folder.parent).as_posix()))
        if refuses(len(ended.operations) - 1, operation, path):
            raise OSError(code, os.strerror(code), str(path))

    events = running(request, Stop())
    while True:
        try:
            with intercepted(refuse, request.folder, changes_only=not reads):
                event = next(events, None)
        except (GemmaZeroError, OSError) as error:
            ended.error = error
            break
        if event is None:
            break
        ended.events.append(event)
        if isinstance(event, Saved):
            assert newest_step(request.folder) == event.step
        if isinstance(event, Saved | Unsaved):
            assert list(damages(request.folder)) == []
        after(event)
    assert list(damages(request.folder)) == []
    return ended


def changed(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Which tensors of the last checkpoint, and which lines, are not the same."""
    last = max(name for name in second if name.startswith("checkpoints/")).split("/")[1]
    different = differences(first, second)
    return [name for name in different if name == "told" or (last in name and name.endswith(".safetensors"))]


def check(request: Request, ended: Session, straight: dict[str, Any], place: object) -> None:
    """A session on a bad disk has ended well, or has told what is wrong; the next one then ends as if nothing was."""
    newest = newest_step(request.folder)
    if ended.error is None:
        assert [event.step for event in ended.events if isinstance(event, Stepped)] == [1, 2, 3, 4], place
        assert newest == 4, place
        assert changed(outcome(request.folder), straight) == [], place
        if not ended.unsaved:
            assert differences(outcome(request.folder), straight) == [], place
    else:
        assert explain(ended.error) is not None, (place, "it would be a traceback")
        if ended.has_begun:
            assert isinstance(ended.error, GemmaZeroError), place
            last = f"the last step that is saved is {newest}" if newest else "nothing is saved"
            assert f"was not saved, {last}: " in ended.error.message, place
            assert f"gemmazero resume {request.folder}" in ended.error.hint, place
            assert ended.unsaved, place
    again = session(request)
    assert again.error is None, place
    assert changed(outcome(request.folder), straight) == [], place
    lines = [json.loads(line) for line in (request.folder / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == [1, 2, 3, 4], place
    assert lines[-1]["event"] == "finished", place


def try_all(
    request_of: RequestOf, straight: dict[str, Any], code: int, refusals: Sequence[range], *, reads: bool = False
) -> Counter[str]:
    """A run for each of the ``refusals``, ranges of operations; how it ended, counted."""
    endings: Counter[str] = Counter()
    for number, refused in enumerate(refusals):
        request = request_of(f"run-{number}")
        ended = session(request, lambda operation, *_, refused=refused: operation in refused, code, reads=reads)
        place = ended.operations[refused.start] if refused.start < len(ended.operations) else "never"
        check(request, ended, straight, (refused, place, errno.errorcode[code]))
        later = itertools.dropwhile(lambda event: not isinstance(event, Unsaved), ended.events)
        endings["saved again"] += any(isinstance(event, Saved) for event in later)
        endings["an error at the end"] += ended.error is not None and ended.has_begun
        endings["not begun"] += not ended.has_begun
        endings["unharmed"] += ended.error is None and not ended.unsaved
        shutil.rmtree(request.folder, ignore_errors=True)
    return endings


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("stride", [STRIDE, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_operation_that_the_disk_refuses_once_costs_a_save_at_most(
    stride: int, code: int, request_of: RequestOf, well: Session, straight: dict[str, Any]
) -> None:
    places = range(CODES.index(code) * stride // 3, len(well.operations), stride)
    refusals = [range(first, first + 1) for first in places]
    endings = try_all(request_of, straight, code, refusals)
    assert endings["saved again"]
    assert endings["an error at the end"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_operation_that_reads_and_fails_costs_a_save_at_most(request_of: RequestOf, straight: dict[str, Any]) -> None:
    operations = session(request_of("well"), reads=True).operations
    refusals = [range(first, first + 1) for first in range(len(operations))]
    endings = try_all(request_of, straight, errno.EIO, refusals, reads=True)
    assert endings["saved again"]
    assert endings["unharmed"]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("stride", [2 * STRIDE, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_disk_that_never_recovers_ends_the_run_with_an_error_that_says_what_is_saved(
    stride: int, code: int, request_of: RequestOf, well: Session, straight: dict[str, Any]
) -> None:
    places = range(CODES.index(code) * stride // 3, len(well.operations), stride)
    refusals = [range(first, 10**9) for first in places]
    endings = try_all(request_of, straight, code, refusals)
    assert endings["an error at the end"]
    assert not endings["saved again"]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(60))
def test_disk_that_comes_and_goes_costs_saves_at_most(
    seed: int, request_of: RequestOf, straight: dict[str, Any]
) -> None:
    chance = random.Random(seed)
    request, share = request_of(), chance.choice((0.003, 0.01, 0.05))
    ended = session(request, lambda *_: chance.random() < share, chance.choice(CODES), reads=True)
    check(request, ended, straight, (seed, share))


def test_metrics_that_the_disk_refuses_are_told_of_once_a_streak_and_follow_later(
    request_of: RequestOf, straight: dict[str, Any]
) -> None:
    opened = 0

    def refuses(number: int, operation: str, path: Path) -> bool:
        nonlocal opened
        opened += operation == "open" and path.name == METRICS
        return operation == "write" and path.name == METRICS and opened in (2, 3, 4, 7)

    ended = session(request_of(), refuses, errno.ENOSPC)
    assert ended.unsaved == [METRICS, METRICS]
    assert ended.error is None
    assert differences(outcome(request_of().folder), straight) == []


def test_metrics_that_lack_their_end_are_an_error_at_the_end(request_of: RequestOf, straight: dict[str, Any]) -> None:
    ended = session(request_of(), lambda _, operation, path: (operation, path.name) == ("write", METRICS))
    assert ended.unsaved == [METRICS]
    assert isinstance(ended.error, GemmaZeroError)
    assert "the end of metrics.jsonl was not saved, the last step that is saved is 4" in ended.error.message
    again = session(request_of())
    assert again.error is None
    assert differences(outcome(request_of().folder), straight) == []


def test_old_checkpoint_that_cannot_be_removed_stops_nothing_and_goes_later(
    request_of: RequestOf, straight: dict[str, Any]
) -> None:
    """Half of its files are gone: that must not be called a checkpoint."""
    files = 0

    def refuses(number: int, operation: str, path: Path) -> bool:
        nonlocal files
        files += operation == "unlink" and ".step-00000002.writing" in path.parts
        return operation == "unlink" and files == 4

    ended = session(request_of(), refuses, errno.EIO)
    assert ended.error is None
    assert ended.unsaved == []
    assert differences(outcome(request_of().folder), straight) == []
    assert not (request_of().folder / "checkpoints" / "step-00000002").exists()


@pytest.mark.parametrize("turn", range(6))
@pytest.mark.parametrize("folder", ["checkpoints", ".step-00000004.writing"])
def test_folder_that_the_disk_does_not_list_is_not_taken_for_empty(
    folder: str, turn: int, request_of: RequestOf, straight: dict[str, Any]
) -> None:
    times = itertools.count()
    ended = session(
        request_of(),
        lambda _, operation, path: (operation, path.name) == ("list", folder) and next(times) == turn,
        reads=True,
    )
    check(request_of(), ended, straight, (folder, turn))


@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors", "training/optimizer.safetensors"])
def test_newest_checkpoint_that_the_disk_no_longer_gives_back_is_passed_over(name: str, request_of: RequestOf) -> None:
    request = request_of(steps=6, keep=9)
    train(request, stop_after=4)
    newest = request.folder / "checkpoints" / "step-00000004"
    ended = session(request, lambda _, operation, path: operation == "read" and path == newest / name, reads=True)
    rejected, resumed = ended.events[:2]
    assert isinstance(rejected, Rejected)
    assert (rejected.step, rejected.checkpoint) == (4, newest)
    assert os.strerror(errno.EIO) in rejected.reason
    assert isinstance(resumed, Resumed)
    assert resumed.step == 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real one, of 64 MiB."""
    with mounted(tmp_path / "disk", "size=64m") as folder:
        yield folder


@pytest.fixture
def on_disk(disk: Path, tiny_data: Path, tiny_preset: Path) -> Request:
    """A run there that saves at every step and removes nothing."""
    return Request(out=disk / "run", preset=str(tiny_preset), data=str(tiny_data), settings=MANY_SAVES)


def tensor_bytes(run: Path) -> int:
    """The size of what a save asks room for."""
    return sum(path.stat().st_size for path in (run / "checkpoints" / "step-00000001").rglob("*.safetensors"))


ROOMS: dict[str, Callable[[int], int]] = {  # what is left of the disk, where the tensors need so much
    "none": lambda _: 0,
    "some": lambda needed: needed // 2,
    "enough for the tensors": lambda needed: needed + 8192,
}


@pytest.mark.parametrize("room", ROOMS)
def test_run_on_a_disk_that_fills_up_goes_on_and_saves_when_there_is_room_again(
    room: str, disk: Path, on_disk: Request, straight_of_many: dict[str, Any]
) -> None:
    def change(event: Any) -> None:
        if isinstance(event, Saved) and event.step == 2:
            fill(disk, ROOMS[room](tensor_bytes(on_disk.folder)))
        if isinstance(event, Stepped) and event.step == 5:
            (disk / "filler").unlink()

    ended = session(on_disk, after=change)
    assert ended.error is None
    checkpoints = [what for what in ended.unsaved if what != METRICS]
    assert checkpoints == ["the checkpoint of step 3", "the checkpoint of step 4"]
    reasons = [event.reason for event in ended.events if isinstance(event, Unsaved) and event.what != METRICS]
    assert all(reason.startswith("the disk is full") for reason in reasons)
    assert all((" needs " in reason) == (room != "enough for the tensors") for reason in reasons)
    assert [event.step for event in ended.events if isinstance(event, Saved)] == [1, 2, 5, 6, 7, 8]
    assert changed(outcome(on_disk.folder), straight_of_many) == []


@pytest.mark.parametrize("room", ROOMS)
def test_run_on_a_disk_that_stays_full_ends_with_an_error_and_can_go_on(
    room: str, disk: Path, on_disk: Request, straight_of_many: dict[str, Any]
) -> None:
    def change(event: Any) -> None:
        if isinstance(event, Saved) and event.step == 2:
            fill(disk, ROOMS[room](tensor_bytes(on_disk.folder)))

    ended = session(on_disk, after=change)
    assert isinstance(ended.error, GemmaZeroError)
    what, last = "the checkpoint of step 8 was not saved", "the last step that is saved is 2"
    assert ended.error.message.startswith(f"{what}, {last}: the disk is full")
    assert [event.step for event in ended.events if isinstance(event, Stepped)] == list(range(1, 9))
    (disk / "filler").unlink()
    again = session(on_disk)
    assert again.error is None
    assert again.events[0].step == 2
    assert differences(outcome(on_disk.folder), straight_of_many) == []


@pytest.mark.slow
def test_run_that_fills_a_disk_by_itself_goes_on_once_its_oldest_checkpoints_are_removed(
    tiny_data: Path, tiny_preset: Path, disk: Path
) -> None:
    settings = MANY_SAVES | {"steps": 260, "validate_every": 130, "keep": 999}
    request = Request(out=disk / "run", preset=str(tiny_preset), data=str(tiny_data), settings=settings)
    full_at: list[int] = []

    def remove_oldest(event: Any) -> bool:
        if isinstance(event, Unsaved) and event.what != METRICS:
            full_at.append(event.step)
            assert event.reason.startswith("the disk is full")
            for checkpoint in sorted((request.folder / "checkpoints").glob("step-*"))[:20]:
                shutil.rmtree(checkpoint)
        return False

    events = train(request, stop_when=remove_oldest)
    assert told(events[-1:]) == "finished260"
    assert full_at[0] > 50, "it filled the disk by itself"
    assert full_at == sorted(set(full_at))
    saved = {event.step for event in events if isinstance(event, Saved)}
    assert saved == set(range(1, 261)) - set(full_at)
    assert list(damages(request.folder)) == []
    assert newest_step(request.folder) == 260


def test_second_process_on_a_run_is_refused_with_the_id_of_the_first(
    request_of: RequestOf, tiny_data: Path, tiny_preset: Path
) -> None:
    run = request_of().folder
    options = {
        "max-time": "5m",
        "steps": 10**6,
        "batch-size": 4,
        "sequence-length": 16,
        "save-every": 1,
        "device": "cpu",
        "threads": 1,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "gemmazero", "train", "--preset", tiny_preset, "--data", tiny_data, "--out", run]
    with subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        try:
            while not newest_step(run):
                assert first.poll() is None
                time.sleep(0.05)
            before = (run / "run.json").read_bytes()
            for request in (Request(out=run, resumes=True), request_of(steps=10**6)):
                with pytest.raises(GemmaZeroError) as raised:
                    train(request)
                assert raised.value.message == f'"{run}" is in use by process {first.pid}'
                assert raised.value.hint.endswith(f"kill {first.pid}")
            assert first.poll() is None, "it was not disturbed"
            assert (run / "run.json").read_bytes() == before
        finally:
            first.kill()
    events = train(Request(out=run, resumes=True), stop_after=0)
    assert isinstance(events[0], Resumed)
    assert events[0].step > 0
