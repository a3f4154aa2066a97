"""Events → metrics.jsonl and the loss plot."""

import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from gemmazero.folder import write_file
from gemmazero.training.events import Event, Finished, Stepped, Validated

METRICS = "metrics.jsonl"
PLOT = "loss_plot.png"
_TIMELESS = ("event", "step", "loss", "learning_rate", "gradient_norm", "tokens", "best", "whole")


class Record:
    """One line an event in ``metrics.jsonl``, and the run's history: the same steps and validations without times.

    Args:
        folder: the run folder.
        history: of the checkpoint that the run goes on from; empty at the start. Lines beyond it, which a killed
            process left, are cut.
    """

    def __init__(self, folder: Path, history: str = "") -> None:
        self._folder = folder
        self._history = [json.loads(line) for line in history.splitlines()]
        kept = _rewound(_read_lines(folder / METRICS), self._history)
        write_file(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))

    @property
    def history(self) -> str:
        """JSON lines: every step and validation so far, a pure function of the run's settings."""
        return "".join(json.dumps(line) + "\n" for line in self._history)

    @property
    def step(self) -> int:
        """The last step told of."""
        return self._last("stepped")

    @property
    def validated_step(self) -> int:
        """The step of the last validation told of."""
        return self._last("validated")

    def write(self, event: Event) -> None:
        """Append the event to the history and to ``metrics.jsonl``; a validation draws the plot anew."""
        line = {"event": type(event).__name__.lower()} | {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(event).items()
        }
        if isinstance(event, Stepped | Validated):
            self._history.append(_timeless(line))  # first: a file that lacks it is mended when the run goes on
        with (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if isinstance(event, Validated):
            self.draw()

    def draw(self) -> None:
        """Draw ``loss_plot.png``: training loss, its running mean, validation loss and the best of it."""
        from matplotlib.figure import Figure

        steps, losses = self._curve("stepped")
        validated, validation_losses = self._curve("validated")
        figure = Figure(figsize=(9, 5), dpi=130, layout="constrained")
        axes = figure.subplots()
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
        axes.legend(frameon=False)
        image = io.BytesIO()
        figure.savefig(image, format="png")
        write_file(self._folder / PLOT, image.getvalue())

    def _last(self, event: str) -> int:
        return next((int(line["step"]) for line in reversed(self._history) if line["event"] == event), 0)

    def _curve(self, event: str) -> tuple[Any, Any]:
        points = [line for line in self._history if line["event"] == event]
        return np.array([line["step"] for line in points]), np.array([line["loss"] for line in points])


def finished(folder: Path) -> Finished | None:
    """How the run in ``folder`` ended, where it has."""
    names = [item.name for item in fields(Finished)]
    last = (_read_lines(folder / METRICS) or [{}])[-1]
    return Finished(**{name: last[name] for name in names}) if last.keys() == {"event", *names} else None


def _rewound(lines: list[dict[str, Any]], history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines up to the first step or validation beyond ``history``; where they lack one of its, ``history``."""
    kept: list[dict[str, Any]] = []
    told = 0
    for line in lines:
        if line["event"] in ("stepped", "validated"):
            if told == len(history) or _timeless(line) != history[told]:
                break
            told += 1
        kept.append(line)
    return kept if told == len(history) else list(history)


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in _TIMELESS if name in line}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Every event up to the first line that is none, as a killed process may leave the last one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = []
    for line in text.split("\n")[:-1]:
        try:
            event = json.loads(line)
        except ValueError:
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
