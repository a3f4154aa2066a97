"""Facts of preparing data → the terminal. Imported when data is prepared: it brings numpy."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gemmazero.cli import console, units
from gemmazero.data.prepare import Opened, Prepared, PrepareEvent, PrepareReport, Surveyed, Tokenized, TokenizerMade
from gemmazero.data.shards import SPLITS


class PreparationProgress:
    """A line for each fact; while tokens are written, a bar where somebody watches, else a line each tenth."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("tokenizing"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            redirect_stdout=False,
            transient=True,
            disable=not console.is_terminal(),
        )
        self._task = self._bar.add_task("tokenizing", total=None)
        self._text_bytes = 0
        self._tenths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, event: PrepareEvent) -> None:
        """Take in one event."""
        match event:
            case Opened():
                console.say(f"reading {event.source}" + (f" at {event.revision[:19]}" if event.revision else ""))
            case Surveyed():
                self._text_bytes = event.text_bytes
                self._bar.update(self._task, total=event.text_bytes)
                console.say(f"found {event.documents:,} documents, {units.size(event.text_bytes)} of text")
            case TokenizerMade():
                console.say(f"tokenizing with {event.name}, {event.vocab_size:,} ids")
                self._bar.start()
            case Tokenized():
                self._bar.update(self._task, completed=event.text_bytes)
                self._say_each_tenth(event)
            case Prepared():
                self._bar.stop()

    def _say_each_tenth(self, event: Tokenized) -> None:
        tenths = event.text_bytes * 10 // max(self._text_bytes, 1)
        if tenths > self._tenths and not console.is_terminal():
            console.say(f"{tenths * 10}%: {event.documents:,} documents, {event.tokens:,} tokens")
        self._tenths = tenths


def summary(report: PrepareReport) -> str:
    """A report in words."""
    manifest = report.manifest
    exact = "exact" if manifest.round_trip == 1 else f"exact for {manifest.round_trip:.1%} of a sample of documents"
    lines = [f"{report.folder} {'was there already, made in the same way' if report.reused else 'is ready'}"]
    lines.append(
        f"  tokenizer   {manifest.tokenizer}, {manifest.vocab_size:,} ids; decoding gives the text back: {exact}"
    )
    for split in SPLITS:
        facts = manifest.splits[split]
        text = units.size(facts.text_bytes)
        lines.append(f"  {split:<11} {facts.documents:,} documents, {facts.tokens:,} tokens, {text} of text")
    if manifest.dropped_short:
        lines.append(f"  left out    {manifest.dropped_short:,} documents that are too short")
    if manifest.dropped_invalid:
        lines.append(f"  left out    {manifest.dropped_invalid:,} documents that are not valid UTF-8")
    return "\n".join(lines)
