"""Events → metrics.jsonl and the loss plot."""

import errno
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gemmazero.errors import CheckpointError, GemmaZeroError
from gemmazero.folder import write_file
from gemmazero.regular_file import read_bytes
from gemmazero.training.events import Event, Finished, Validated

METRICS = "metrics.jsonl"
PLOT = "loss_plot.png"
LARGEST_METRICS = 2**30  # bytes: millions of steps
_OF_HISTORY = ("stepped", "validated", "skipped", "rolled_back")
_TIMED = ("seconds", "tokens_per_second", "memory_bytes", "mfu", "incident")


class Record:
    """One line an event in ``metrics.jsonl``, and the run's history: what of it is a function of the run's settings.

    A disk that refuses a line gets it, and those after it, with a later event; ``unwritten`` says why until then.

    Args:
        folder: the run folder.
        history: of the checkpoint that the run goes on from; empty at the start. Lines beyond it, which a killed
            process left, are cut.
    """

    def __init__(self, folder: Path, history: str = "") -> None:
        self._folder = folder
        self._history = [json.loads(line) for line in history.splitlines()]
        kept = _text(_rewound(_read_lines(folder / METRICS), self._history))
        write_file(folder / METRICS, kept)
        self._size, self._waiting = len(kept), ""  # JSON is ASCII: as many bytes as characters
        self.unwritten = ""
        """Why ``metrics.jsonl`` lacks the last lines; empty where it does not."""

    @property
    def history(self) -> str:
        """JSON lines: every step, validation, skipped batch and way back so far."""
        return _text(self._history)

    @property
    def step(self) -> int:
        """The last step told of."""
        return self._last("stepped")

    @property
    def validated_step(self) -> int:
        """The step of the last validation told of."""
        return self._last("validated")

    @property
    def next_batch(self) -> int:
        """The number of the first batch that no line of the history has read or left behind."""
        for line in reversed(self._history):
            if line["event"] != "validated":
                last: int = line["skipped"][-1] if line["event"] == "rolled_back" else line["batch"]
                return last + 1
        return 0

    def recent_losses(self, count: int) -> list[float]:
        """The losses of the last ``count`` steps, the last one first."""
        return list(islice((line["loss"] for line in reversed(self._history) if line["event"] == "stepped"), count))

    def best_step(self, until: int) -> int | None:
        """The step of the lowest validation loss up to and including step ``until``; None where there is none."""
        validated = [line for line in self._with_loss("validated") if line["step"] <= until]
        return min(validated, key=lambda line: line["loss"])["step"] if validated else None

    def write(self, event: Event) -> None:
        """Append the event to the history and to ``metrics.jsonl``; a validation draws the plot anew."""
        line = _line(event)
        if line["event"] in _OF_HISTORY:
            self._history.append(_timeless(line))  # first: a file that lacks it is mended when the run goes on
        self._waiting += _text([line])
        self._append()
        if isinstance(event, Validated):
            with suppress(GemmaZeroError, OSError):  # matplotlib writes too; it is drawn again at the next validation
                self.draw()

    def roll_back(self, step: int) -> None:
        """Cut what lies beyond ``step``, in the history and in ``metrics.jsonl``; earlier ways back stay told."""
        self._history = _cut(self._history, step)
        try:
            told = _read_lines(self._folder / METRICS, self._size) + _lines(self._waiting)
        except CheckpointError:
            told = self._history
        self._size, self._waiting = 0, _text(_cut(told, step))
        try:
            write_file(self._folder / METRICS, self._waiting)
            self._size, self._waiting, self.unwritten = len(self._waiting), "", ""
        except GemmaZeroError as error:
            self.unwritten = error.message

    def draw(self) -> None:
        """Draw ``loss_plot.png``: training loss, its running mean, validation loss and the best of it."""
        from matplotlib.figure import Figure

        steps, losses = self._curve("stepped")
        validated, validation_losses = self._curve("validated")
        figure = Figure(figsize=(9, 5), dpi=130)
        axes = figure.add_axes((0.1, 0.11, 0.88, 0.82))  # a layout that is computed draws everything twice
        axes.plot(steps, losses, color="#9ecae1", linewidth=0.8, label="training, each step")
        axes.plot(steps, _running_mean(losses), color="#2171b5", linewidth=1.8, label="training, running mean")
        if len(validated):
            best = int(validation_losses.argmin())
            axes.plot(validated, validation_losses, color="#d94801", marker="o", markersize=4, label="validation")
            axes.annotate(
                f"best {validation_losses[best]:.3f} at step {int(validated[best])}",
                (validated[best], validation_losses[best]), xytext=(0, 14), textcoords="offset points", ha="right",
                color="#d94801",
            )  # fmt: skip
        axes.set(xlabel="optimizer step", ylabel="loss, nats a token", title=self._folder.name)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right")  # where no loss that falls is
        image = io.BytesIO()
        figure.savefig(image, format="png")
        write_file(self._folder / PLOT, image.getvalue())

    def _append(self) -> None:
        """Write what waits, in place of what was left when that failed before."""
        data = self._waiting.encode()
        try:
            with (self._folder / METRICS).open("ab", buffering=0) as file:
                if file.tell() > self._size:
                    file.truncate(self._size)
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.unwritten = error.strerror or str(error)
        else:
            self._size, self._waiting, self.unwritten = self._size + len(data), "", ""

    def _last(self, event: str) -> int:
        return next((int(line["step"]) for line in reversed(self._history) if line["event"] == event), 0)

    def _with_loss(self, event: str) -> list[dict[str, Any]]:
        """The lines whose loss is a number."""
        return [line for line in self._history if line["event"] == event and line["loss"] is not None]

    def _curve(self, event: str) -> tuple[Any, Any]:
        points = self._with_loss(event)
        return np.array([line["step"] for line in points]), np.array([line["loss"] for line in points])


def load_drawing() -> None:
    """Load what draws the losses: 30 MB, which a run takes up with its first validation."""
    import matplotlib.figure  # noqa: F401


def finished(folder: Path) -> Finished | None:
    """How the run in ``folder`` ended, where it has."""
    names = [item.name for item in fields(Finished)]
    last = (_read_lines(folder / METRICS) or [{}])[-1]
    are_numbers = all(isinstance(last.get(name), int | float | None) for name in names)
    is_end = last.keys() == {"event", *names} and are_numbers and last["loss"] is not None
    return Finished(**{name: last[name] for name in names}) if is_end else None


def has_saved(folder: Path) -> bool:
    """Whether the run in ``folder`` says of itself that it saved a checkpoint."""
    return any(line["event"] == "saved" for line in _read_lines(folder / METRICS))


def _rewound(lines: list[dict[str, Any]], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines up to the first beyond ``history`` that is of its kind; where they lack one of its, ``history``."""
    kept: list[dict[str, Any]] = []
    told = 0
    for line in lines:
        if line["event"] in _OF_HISTORY:
            if told == len(history) or _timeless(line) != history[told]:
                break
            told += 1
        kept.append(line)
    return kept if told == len(history) else list(history)


def _cut(lines: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """The lines up to the first of history beyond the last step or validation that ``step`` includes.

    What follows only tells of the way that is left, but for earlier ways back.
    """
    included = (
        index for index, line in enumerate(lines) if line["event"] in ("stepped", "validated") and line["step"] <= step
    )
    beyond = range(max(included, default=-1) + 1, len(lines))
    end = next((index for index in beyond if lines[index]["event"] in _OF_HISTORY), len(lines))
    return lines[:end] + [line for line in lines[end:] if line["event"] == "rolled_back"]


def _line(event: Event) -> dict[str, Any]:
    """The event as JSON has it: what is no number is null; an absolute path, which no other machine has, its name."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    return {"event": name} | {key: _plain(value) for key, value in asdict(event).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Path):
        return value.name if value.is_absolute() else str(value)
    return value


def _text(lines: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _TIMED}


def _read_lines(path: Path, size: int | None = None) -> list[dict[str, Any]]:
    """Every event up to the first line that is none, as a killed process may leave the last one; of ``size`` bytes."""
    try:
        return _lines(read_bytes(path, LARGEST_METRICS)[:size].decode(errors="replace"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(
            f'cannot read "{path}": {error.strerror or error}', "move it away: it is made again from the checkpoint"
        ) from error


def _lines(text: str) -> list[dict[str, Any]]:
    lines = []
    for line in text.split("\n")[:-1]:
        try:
            event = json.loads(line, parse_constant=lambda _: None)  # a NaN is no JSON
        except (ValueError, RecursionError):
            break
        if not (isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("step"), int)):
            break
        lines.append(event)
    return lines


def _running_mean(losses: Any) -> Any:
    """Exponential, over about a fiftieth of the run."""
    mean = np.array(losses, dtype=float)
    share = 2 / (2 + max(1, len(losses) // 50))
    for index in range(1, len(mean)):
        mean[index] = mean[index - 1] + share * (mean[index] - mean[index - 1])
    return mean
