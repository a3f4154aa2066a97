"""Training events → the terminal: redrawn in place where somebody watches, a plain line now and then elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from gemmazero.cli import console, units
from gemmazero.cli.figures import Figures
from gemmazero.training.events import Event, Resumed, Saved, Started, Stepped, Validated

if TYPE_CHECKING:
    from rich.console import RenderableType

SECONDS_BETWEEN_LINES = 10.0


class PlainProgress:
    """A line for the first step, for every validation and checkpoint, and for each ten seconds of steps."""

    def __init__(self) -> None:
        self.figures = Figures()
        self._seconds_since_line = SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Take in one event."""
        self.figures = self.figures.after(event)
        match event:
            case Started() | Resumed():
                console.say(beginning(event))
            case Stepped():
                self._seconds_since_line += event.seconds
                if self._seconds_since_line >= SECONDS_BETWEEN_LINES:
                    self._seconds_since_line = 0.0
                    console.say(", ".join([self._place(), *self.figures.of_learning(), *self.figures.of_machine()]))
            case Validated():
                console.say(f"{self._place()}, validation loss {event.loss:.4f}{', the best so far' * event.best}")
            case Saved():
                console.say(f"{self._place()}, saved {event.checkpoint}")

    def _place(self) -> str:
        return f"step {self.figures.step:,} of {self.figures.steps:,}"


class LiveProgress:
    """A bar and two lines of figures, redrawn four times a second."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.figures = Figures()
        self._live = Live(
            get_renderable=self._draw,
            console=Console(stderr=True),
            refresh_per_second=4,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Take in one event."""
        self.figures = self.figures.after(event)
        if isinstance(event, Started | Resumed):
            console.say(beginning(event))
            self._live.start()

    def _draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        figures = self.figures
        top = Table.grid(padding=(0, 1), expand=True)
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(no_wrap=True)
        top.add_row(
            f"step {figures.step:,} of {figures.steps:,}",
            ProgressBar(total=figures.steps, completed=figures.step),
            f"{figures.step / max(figures.steps, 1):.0%}",
        )
        return Group(top, Text("   ".join(figures.of_learning())), Text("   ".join(figures.of_machine()), style="dim"))


def watch() -> PlainProgress | LiveProgress:
    """The progress that suits stderr."""
    return LiveProgress() if console.is_terminal() else PlainProgress()


def beginning(event: Started | Resumed) -> str:
    """What a run is, in a line; below it a warning for each setting given anew."""
    verb = "starts"
    changed: tuple[str, ...] = ()
    if isinstance(event, Resumed):
        verb, changed = f"goes on after step {event.step:,}", event.changed
    size = f"{units.amount(event.parameters)} parameters, {event.steps:,} steps of {event.tokens_per_step:,} tokens"
    warnings = [f"warning: changed {change}; the result may differ in the last digits" for change in changed]
    return "\n".join([f"{event.run} {verb}: {size}, {event.device}, {event.precision}", *warnings])
