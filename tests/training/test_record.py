import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from gemmazero.training.events import Event, Finished, Saved, Started, Stepped, Validated
from gemmazero.training.record import METRICS, PLOT, Record, finished

FINISHED = Finished(step=3, loss=2.7, validation_loss=2.9, best_step=2)


def stepped(step: int, seconds: float = 0.5) -> Stepped:
    return Stepped(
        step=step, loss=3 - step / 10, learning_rate=1e-3 / 3, gradient_norm=1.5, tokens=64 * step, seconds=seconds,
        tokens_per_second=64 / seconds, memory_bytes=1000,
    )  # fmt: skip


def validated(step: int, loss: float = 2.9, *, whole: bool = False) -> Validated:
    return Validated(step=step, loss=loss, tokens=100, best=True, whole=whole, seconds=0.1)


def saved(step: int) -> Saved:
    return Saved(step=step, checkpoint=Path("checkpoints", f"step-{step:08d}"), seconds=0.2)


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
