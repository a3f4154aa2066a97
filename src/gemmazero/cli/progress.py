"""Training events → the terminal: redrawn in place where somebody watches, a plain line now and then elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from gemmazero.cli import console, signals, units
from gemmazero.cli.figures import Figures
from gemmazero.training.events import (
    Delayed,
    Event,
    Fetched,
    Pushed,
    PushFailed,
    Rejected,
    Resumed,
    RolledBack,
    Saved,
    Skipped,
    Started,
    Stepped,
    Uncompiled,
    Unsaved,
    Validated,
    Waiting,
)

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
            case Fetched():
                console.say(fetched(event))
            case Pushed():
                console.say(f"step {event.step:,} is on the Hub, in {event.repo}")
            case (
                Delayed() | Rejected() | Skipped() | RolledBack() | Uncompiled() | Unsaved() | Waiting() | PushFailed()
            ):
                console.say(warning(event))

    def note(self, text: str) -> None:
        """Say ``text`` from a signal handler, which may interrupt anything."""
        signals.say_at_once(text)

    def _place(self) -> str:
        return f"step {self.figures.step:,} of {self.figures.steps:,}"


class LiveProgress:
    """A bar and lines of figures, redrawn four times a second; warnings stay above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.figures = Figures()
        self._note = ""
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
        elif isinstance(event, Fetched):
            console.say(fetched(event))
        elif isinstance(event, Delayed | Rejected | Skipped | RolledBack | Uncompiled | Unsaved | Waiting | PushFailed):
            console.say(warning(event))

    def note(self, text: str) -> None:
        """Show ``text`` from the next redraw on; safe in a signal handler, which may interrupt anything."""
        self._note = text

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
        lines = [Text("   ".join(figures.of_learning())), Text("   ".join(figures.of_machine()), style="dim")]
        return Group(top, *lines, *([Text(self._note)] if self._note else []))


def watch() -> PlainProgress | LiveProgress:
    """The progress that suits stderr."""
    return LiveProgress() if console.is_terminal() else PlainProgress()


def beginning(event: Started | Resumed) -> str:
    """What a run is, in a line; below it how it was extended, and a warning for each setting given anew."""
    verb, extension = "starts", ""
    changed: tuple[str, ...] = ()
    if isinstance(event, Resumed):
        verb, changed, extension = f"goes on after step {event.step:,}", event.changed, event.extension
    size = f"{units.amount(event.parameters)} parameters, {event.steps:,} steps of {event.tokens_per_step:,} tokens"
    warnings = [f"warning: changed {change}; the result may differ in the last digits" for change in changed]
    first = f"{event.run} {verb}: {size}, {event.device}, {event.precision}"
    return "\n".join([first, *([f"extended: {extension}"] if extension else []), *warnings])


def fetched(event: Fetched) -> str:
    """What was brought from the Hub, in a line."""
    return f"brought step {event.step:,} from {event.repo}, verified, in {units.duration(event.seconds)}"


def warning(event: Delayed | Rejected | Skipped | RolledBack | Uncompiled | Unsaved | Waiting | PushFailed) -> str:
    """Something that went wrong and did not end the run, in a line."""
    match event:
        case Delayed():
            told = f"{event.reason}; tried again in {units.duration(event.seconds)}"
        case Rejected():
            told = f"{event.reason}; the next older checkpoint is looked at"
        case Skipped():
            told = f"{event.reason} at step {event.step + 1:,}: batch {event.batch:,} is skipped; see {event.incident}"
        case RolledBack():
            batches = f"{len(event.skipped):,} batches are not read again"
            told = f"went back from step {event.from_step:,} to step {event.step:,}; {batches}"
        case Uncompiled():
            told = f"{event.reason}; the run goes on without"
        case Unsaved():
            told = f"{event.what} could not be saved: {event.reason}; training goes on, saving is tried again"
        case PushFailed():
            there = "none is" if event.pushed_step is None else f"step {event.pushed_step:,} is"
            since = f" for {units.duration(event.behind_seconds)}" if event.behind_seconds >= 1 else ""
            again = f"; tried again in {units.duration(event.retry_seconds)}" if event.retry_seconds else ""
            told = f"step {event.step:,} is not on the Hub{since}, {there}: {event.reason}{again}"
        case Waiting():
            told = f"step {event.step + 1:,} waits for text: {event.reason}"
    return f"{console.styled('warning:', fg='yellow', bold=True)} {told}"
