import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from file_operations import intercepted
from gemmazero.errors import CheckpointError, GemmaZeroError
from gemmazero.training.events import (
    Event,
    Finished,
    Resumed,
    RolledBack,
    Saved,
    Skipped,
    Started,
    Stepped,
    Unsaved,
    Validated,
)
from gemmazero.training.record import METRICS, PLOT, Record, finished

FINISHED = Finished(step=3, loss=2.7, validation_loss=2.9, best_step=2)


def stepped(step: int, seconds: float = 0.5) -> Stepped:
    return Stepped(
        step=step, batch=step - 1, loss=3 - step / 10, learning_rate=1e-3 / 3, gradient_norm=1.5, tokens=64 * step,
        seconds=seconds, tokens_per_second=64 / seconds, memory_bytes=1000,
    )  # fmt: skip


def validated(step: int, loss: float = 2.9, *, whole: bool = False) -> Validated:
    return Validated(step=step, loss=loss, tokens=100, best=True, whole=whole, seconds=0.1)


def saved(step: int) -> Saved:
    return Saved(step=step, checkpoint=Path("checkpoints", f"step-{step:08d}"), seconds=0.2)


def skipped(step: int, batch: int, loss: float = math.nan) -> Skipped:
    incident = Path("incidents", f"batch-{batch}.json")
    return Skipped(step=step, batch=batch, loss=loss, gradient_norm=math.inf, reason="a loss of nan", incident=incident)


def rolled_back(step: int, from_step: int, *batches: int) -> RolledBack:
    return RolledBack(step=step, from_step=from_step, skipped=batches)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def told(folder: Path) -> str:
    return " ".join(f"{line['event']}{line['step']}" for line in lines(folder))


def write(record: Record, *events: Event) -> str:
    for event in events:
        record.write(event)
    return record.history


def test_every_event_is_a_line_with_the_promised_keys(tmp_path: Path) -> None:
    started = Started(
        step=0, run=tmp_path, run_id="a1", steps=3, parameters=9, tokens_per_step=64, device="cpu", precision="fp32"
    )
    write(Record(tmp_path), started, stepped(1), validated(1), saved(1), FINISHED)
    assert told(tmp_path) == "started0 stepped1 validated1 saved1 finished3"
    _, step, validation, save, finish = lines(tmp_path)
    assert {key: step[key] for key in ("event", "step", "loss", "learning_rate", "gradient_norm", "tokens")} == {
        "event": "stepped", "step": 1, "loss": 2.9, "learning_rate": 1e-3 / 3, "gradient_norm": 1.5, "tokens": 64,
    }  # fmt: skip
    assert (validation["loss"], validation["best"], validation["whole"]) == (2.9, True, False)
    assert save["checkpoint"] == str(Path("checkpoints/step-00000001"))
    assert finish["validation_loss"] == 2.9


def test_history_is_the_same_on_a_slower_machine(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    quick = write(Record(tmp_path), stepped(1), validated(1), saved(1), stepped(2))
    slow = write(Record(tmp_path / "other"), stepped(1, seconds=9.0), validated(1), stepped(2))
    assert quick == slow
    assert [json.loads(line)["event"] for line in quick.splitlines()] == ["stepped", "validated", "stepped"]


def test_lines_beyond_the_checkpoint_are_cut_and_those_before_stay(tmp_path: Path) -> None:
    record = Record(tmp_path)
    history = write(record, stepped(1), validated(1), stepped(2))
    write(record, saved(2), stepped(3), validated(3), saved(3))
    before = lines(tmp_path)[:4]
    resumed = Record(tmp_path, history)
    assert lines(tmp_path) == before
    assert resumed.history == history
    write(resumed, stepped(3))
    assert told(tmp_path) == "stepped1 validated1 stepped2 saved2 stepped3"


def test_validation_that_the_checkpoint_does_not_know_of_is_cut(tmp_path: Path) -> None:
    record = Record(tmp_path)
    history = write(record, stepped(1), saved(1))
    write(record, validated(1))
    Record(tmp_path, history)
    assert told(tmp_path) == "stepped1 saved1"
    assert "seconds" in lines(tmp_path)[0]


def test_torn_last_line_is_cut(tmp_path: Path) -> None:
    history = write(Record(tmp_path), stepped(1), stepped(2))
    for torn in (
        b'{"event": "saved", "st',
        b'{"event": "saved", "step": 2}',
        b'{"event"\xff\n{"event": "x", "step": 2}\n',
    ):
        with (tmp_path / METRICS).open("ab") as file:
            file.write(torn)
        Record(tmp_path, history)
        assert told(tmp_path) == "stepped1 stepped2"


@pytest.mark.parametrize("there", [None, "", '{"event": "stepped", "step": 1, "loss": 9.0}\n'])
def test_missing_or_foreign_file_is_rebuilt_from_the_checkpoint(there: str | None, tmp_path: Path) -> None:
    history = write(Record(tmp_path), stepped(1), validated(1), saved(1), stepped(2))
    (tmp_path / METRICS).unlink()
    if there is not None:
        (tmp_path / METRICS).write_text(there)
    assert Record(tmp_path, history).history == history
    assert told(tmp_path) == "stepped1 validated1 stepped2"
    assert lines(tmp_path)[0]["loss"] == 2.9


def test_new_run_begins_with_an_empty_file(tmp_path: Path) -> None:
    write(Record(tmp_path), stepped(1))
    assert Record(tmp_path).history == ""
    assert lines(tmp_path) == []


def test_finished_run_is_known_again_and_stays_whole(tmp_path: Path) -> None:
    record = Record(tmp_path)
    history = write(record, stepped(1), stepped(2), stepped(3), validated(3), saved(3))
    assert finished(tmp_path) is None
    write(Record(tmp_path, history), FINISHED)
    before = (tmp_path / METRICS).read_bytes()
    assert finished(tmp_path) == FINISHED
    Record(tmp_path, history)
    assert finished(tmp_path) == FINISHED
    assert (tmp_path / METRICS).read_bytes() == before


@pytest.mark.parametrize("whole", [False, True])
def test_plot_is_drawn_at_every_validation(whole: bool, tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, *(stepped(step) for step in range(1, 4)))
    assert not (tmp_path / PLOT).exists()
    write(record, validated(3, whole=whole))
    first = matplotlib.image.imread(tmp_path / PLOT)
    assert first.shape[0] > 400
    assert first.shape[1] > 800
    assert 0.05 < (first[..., :3] < 0.99).any(axis=-1).mean() < 0.5, "neither blank nor full"
    assert _has_orange(first)
    write(record, stepped(4), validated(4, loss=1.0, whole=whole))
    assert (matplotlib.image.imread(tmp_path / PLOT) != first).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([METRICS, PLOT])


def _has_orange(image: Any) -> bool:
    red, green, blue = (image[..., colour] for colour in range(3))
    return bool(((red > 0.8) & (green < 0.35) & (blue < 0.1)).any())


def strictly(text: str) -> Any:
    """JSON as its standard has it, where nothing is called NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_line_is_strict_json_and_every_name_in_snake_case(tmp_path: Path) -> None:
    resumed = Resumed(
        step=0, run=tmp_path, run_id="a1", steps=3, parameters=9, tokens_per_step=64, device="cpu", precision="fp32",
        changed=("threads: 2 → 4",),
    )  # fmt: skip
    unsaved = Unsaved(step=1, what=METRICS, reason="disk full")
    events = (resumed, skipped(0, 0), stepped(1), validated(1, loss=math.inf), unsaved, rolled_back(1, 4, 1, 2, 3))
    history = write(Record(tmp_path), *events)
    told = [strictly(line) for line in (tmp_path / METRICS).read_bytes().decode("ascii").splitlines()]
    assert [line["event"] for line in told] == [
        "resumed", "skipped", "stepped", "validated", "unsaved", "rolled_back",
    ]  # fmt: skip
    assert (told[0]["run"], told[0]["changed"]) == (tmp_path.name, ["threads: 2 → 4"])
    assert (told[1]["loss"], told[1]["gradient_norm"], told[1]["incident"]) == (None, None, "incidents/batch-0.json")
    assert told[3]["loss"] is None
    assert told[5] == {"event": "rolled_back", "step": 1, "from_step": 4, "skipped": [1, 2, 3]}
    assert [strictly(line)["event"] for line in history.splitlines()] == [
        "skipped", "stepped", "validated", "rolled_back",
    ]  # fmt: skip
    assert "incident" not in history, "where a run lies is not a function of its settings"


def test_validation_without_a_number_is_neither_best_nor_in_the_way(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1), validated(1, loss=math.nan))
    assert record.best_step(9) is None
    write(record, stepped(2), validated(2, loss=2.0), stepped(3), validated(3, loss=math.nan))
    assert record.best_step(9) == 2
    assert (tmp_path / PLOT).exists()


def test_last_losses_are_those_of_the_steps_alone(tmp_path: Path) -> None:
    record = Record(tmp_path)
    assert record.recent_losses(3) == []
    history = write(record, stepped(1), validated(1), stepped(2), skipped(2, 2, loss=99.0), stepped(3), saved(3))
    for known in (record, Record(tmp_path, history)):
        assert known.recent_losses(2) == [3 - 3 / 10, 3 - 2 / 10]
        assert known.recent_losses(9) == [3 - 3 / 10, 3 - 2 / 10, 3 - 1 / 10]
        assert (known.step, known.validated_step) == (3, 1)


def test_skipped_batch_that_the_checkpoint_does_not_know_of_is_cut(tmp_path: Path) -> None:
    record = Record(tmp_path)
    history = write(record, stepped(1), skipped(1, 1), saved(1))
    write(record, skipped(1, 2), rolled_back(1, 1, 1, 2), saved(1))
    resumed = Record(tmp_path, history)
    assert told(tmp_path) == "stepped1 skipped1 saved1"
    assert resumed.history == history
    assert write(resumed, skipped(1, 2), rolled_back(1, 1, 1, 2)) == record.history


def test_going_back_cuts_history_and_metrics_and_keeps_what_belongs_to_the_step(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1), stepped(2), validated(2))
    kept = record.history
    write(record, saved(2), skipped(2, 2), stepped(3), saved(3), skipped(3, 4), skipped(3, 5), skipped(3, 6))
    record.roll_back(2)
    assert record.history == kept
    assert told(tmp_path) == "stepped1 stepped2 validated2 saved2"
    history = write(record, rolled_back(2, 3, 2, 3, 4, 5, 6), saved(2), stepped(3))
    assert told(tmp_path) == "stepped1 stepped2 validated2 saved2 rolled_back2 saved2 stepped3"
    assert Record(tmp_path, history).history == history
    assert told(tmp_path) == "stepped1 stepped2 validated2 saved2 rolled_back2 saved2 stepped3"


def test_earlier_ways_back_stay_told(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1), saved(1), skipped(1, 1), stepped(2), skipped(2, 3))
    record.roll_back(1)
    write(record, rolled_back(1, 2, 1, 2, 3), saved(1), stepped(2), skipped(2, 5))
    record.roll_back(1)
    history = write(record, rolled_back(1, 2, 4, 5), stepped(2))
    assert told(tmp_path) == "stepped1 saved1 rolled_back1 rolled_back1 stepped2"
    assert [json.loads(line)["event"] for line in history.splitlines()] == [
        "stepped", "rolled_back", "rolled_back", "stepped",
    ]  # fmt: skip
    Record(tmp_path, history)
    assert told(tmp_path) == "stepped1 saved1 rolled_back1 rolled_back1 stepped2"


def test_going_back_to_the_start_leaves_no_step(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1), validated(1), saved(1))
    record.roll_back(0)
    assert (record.history, record.step, record.validated_step) == ("", 0, 0)
    assert lines(tmp_path) == []


EVENTS: tuple[Event, ...] = (stepped(1), skipped(1, 1), saved(1), stepped(2), stepped(3), saved(3))
TOLD = "stepped1 skipped1 saved1 stepped2 stepped3 saved3"


@contextmanager
def refusing(below: Path, first: int, times: int, *, reading: bool = True) -> Iterator[list[str]]:
    """Within, the disk refuses ``times`` operations from number ``first`` on, those that read among them."""
    operations: list[str] = []

    def refuse(operation: str, path: Path) -> None:
        if operation == "read" and not reading:
            return
        operations.append(operation)
        if first <= len(operations) - 1 < first + times:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with intercepted(refuse, below, changes_only=False):
        yield operations


@pytest.mark.parametrize("times", [1, 2, 5, 10_000])
def test_lines_that_the_disk_refused_follow_in_order_when_it_takes_them_again(times: int, tmp_path: Path) -> None:
    first, reached = 0, True
    while reached:
        folder = tmp_path / str(first)
        folder.mkdir()
        record = Record(folder)
        with refusing(folder, first, times, reading=False) as operations:
            for number, event in enumerate(EVENTS, start=1):
                record.write(event)
                there = told(folder) if not record.unwritten else ""
                assert there in ("", " ".join(TOLD.split()[:number])), "all of it, or told that it is not"
        reached = len(operations) > first
        if reached and times == 10_000:
            assert record.unwritten == "No space left on device"
        write(record, stepped(4))
        assert record.unwritten == ""
        assert told(folder) == f"{TOLD} stepped4"
        first += 1
    assert first > 4 * len(EVENTS), "open, write, torn write and close of each"


@pytest.mark.parametrize("torn", [0, 1, 20])
def test_what_a_kill_leaves_of_refused_lines_is_mended(torn: int, tmp_path: Path) -> None:
    record = Record(tmp_path)
    history = write(record, stepped(1), stepped(2))
    whole = (tmp_path / METRICS).read_bytes()
    (tmp_path / METRICS).write_bytes(whole[: len(whole) - torn])
    Record(tmp_path, history)
    assert told(tmp_path) == "stepped1 stepped2"


@pytest.mark.parametrize("times", [1, 3, 10_000])
def test_going_back_while_the_disk_refuses_tells_nothing_twice(times: int, tmp_path: Path) -> None:
    first, reached = 0, True
    while reached:
        folder = tmp_path / str(first)
        folder.mkdir()
        record = Record(folder)
        write(record, stepped(1), saved(1))
        with refusing(folder, first, times) as operations:
            write(record, stepped(2), skipped(2, 2))
            record.roll_back(1)
            write(record, rolled_back(1, 2, 1, 2))
        reached = len(operations) > first
        history = write(record, stepped(2))
        assert record.unwritten == ""
        assert told(folder) in (
            "stepped1 saved1 rolled_back1 stepped2",
            "stepped1 rolled_back1 stepped2",  # the file could not be read: what history holds
        )
        before = (folder / METRICS).read_bytes()
        Record(folder, history)
        assert (folder / METRICS).read_bytes() == before
        first += 1
    assert first > 10


def test_line_that_arrived_whole_before_a_torn_one_is_not_told_twice_on_the_way_back(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1))
    unsaved = Unsaved(step=1, what="the checkpoint of step 1", reason="full " * 200)
    for operation, event in (("write", saved(1)), ("torn write", unsaved)):

        def refuse(now: str, path: Path, operation: str = operation) -> None:
            if now == operation:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with intercepted(refuse, tmp_path):
            record.write(event)
    assert (tmp_path / METRICS).read_text().count('"saved"') == 1
    record.roll_back(1)
    assert record.unwritten == ""
    assert told(tmp_path) == "stepped1 saved1 unsaved1"


def test_file_removed_meanwhile_is_whole_again_when_the_run_goes_on(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1))
    (tmp_path / METRICS).unlink()
    write(record, stepped(2))
    assert told(tmp_path) == "stepped2"
    Record(tmp_path, record.history)
    assert told(tmp_path) == "stepped1 stepped2"


def test_plot_that_cannot_be_written_stops_nothing_and_leaves_the_old_one(tmp_path: Path) -> None:
    record = Record(tmp_path)
    write(record, stepped(1), validated(1))
    before = (tmp_path / PLOT).read_bytes()

    def refuse(operation: str, path: Path) -> None:
        if PLOT in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with intercepted(refuse, tmp_path):
        write(record, stepped(2), validated(2))
    assert record.unwritten == ""
    assert (tmp_path / PLOT).read_bytes() == before
    write(record, stepped(3), validated(3))
    assert (tmp_path / PLOT).read_bytes() != before
    assert told(tmp_path) == "stepped1 validated1 stepped2 validated2 stepped3 validated3"


def test_plot_library_that_finds_no_place_of_its_own_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("Matplotlib requires access to a writable cache directory")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    write(Record(tmp_path), stepped(1), validated(1))
    assert told(tmp_path) == "stepped1 validated1"


def test_disk_that_refuses_at_the_start_is_an_error(tmp_path: Path) -> None:
    with refusing(tmp_path, 1, 10_000), pytest.raises(GemmaZeroError, match="the disk is full"):
        Record(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"event": 1, "step": 1}', '{"event": "x", "step": "1"}', "[]"])
def test_line_that_is_no_event_ends_what_is_read(line: str, tmp_path: Path) -> None:
    history = write(Record(tmp_path), stepped(1))
    with (tmp_path / METRICS).open("a") as file:
        file.write(line + "\n" + '{"event": "saved", "step": 1}\n')
    Record(tmp_path, history)
    assert told(tmp_path) == "stepped1"
    assert finished(tmp_path) is None


def test_metrics_that_are_no_file_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / METRICS)
    for read in (lambda: finished(tmp_path), lambda: Record(tmp_path)):
        with pytest.raises(CheckpointError, match=r"cannot read .*metrics\.jsonl"):
            read()


@pytest.mark.parametrize("change", [{"loss": "low"}, {"loss": None}, {"step": "3"}, {"best_step": []}, {"more": 1}])
def test_end_that_no_run_has_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write(FINISHED)
    assert finished(tmp_path) == FINISHED
    (line,) = lines(tmp_path)
    (tmp_path / METRICS).write_text(json.dumps(line | change) + "\n")
    assert finished(tmp_path) is None
