"""Facts of preparing data → the terminal. Imported when data is prepared: it brings numpy."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from gemmazero.cli import console, units
from gemmazero.data.events import (
    Continued,
    Opened,
    PrepareEvent,
    PrepareReport,
    SampleChosen,
    Sampled,
    StartedOver,
    Tokenized,
    TokenizerMade,
)
from gemmazero.data.shards import SPLITS
from gemmazero.errors import printable

_BYTES_A_LINE = 200_000_000
_NAMES_TOLD = 5


class PreparationProgress:
    """A line for each fact; of text that is read a running count where somebody watches, else a line now and then."""

    def __init__(self) -> None:
        self._status = Status("reading", console=Console(stderr=True))
        self._lines = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def show(self, event: PrepareEvent) -> None:
        """Take in one event."""
        match event:
            case Sampled():
                self._count(event.text_bytes, f"read {_amount(event.documents, event.text_bytes)}")
                return
            case Tokenized():
                so_far = f"{_amount(event.documents, event.text_bytes)}, {units.counted(event.tokens, 'token')}"
                self._count(event.text_bytes, so_far)
                return
        self._status.stop()
        self._lines = 0
        match event:
            case Opened():
                console.say(f"reading {event.source}" + (f" at {event.revision[:19]}" if event.revision else ""))
                if event.passed_over:
                    console.say(f"passed over {_some(event.passed_over)}")
            case StartedOver():
                console.say(f"an earlier prepare left something unfinished that is of no use: {event.reason}")
            case Continued():
                console.say(f"going on after {event.tokens:,} tokens, which an earlier prepare has finished")
            case SampleChosen():
                console.say(f"training the tokenizer on {units.size(event.text_bytes)} of text")
            case TokenizerMade():
                console.say(f"tokenizing with {event.name}, {event.vocab_size:,} ids")

    def _count(self, text_bytes: int, so_far: str) -> None:
        if console.is_terminal():
            self._status.update(so_far)
            self._status.start()
        elif text_bytes // _BYTES_A_LINE > self._lines:
            self._lines = text_bytes // _BYTES_A_LINE
            console.say(so_far)


def _amount(documents: int, text_bytes: int) -> str:
    return f"{units.counted(documents, 'document')}, {units.size(text_bytes)} of text"


def _some(names: tuple[str, ...]) -> str:
    """So many names, the first of them told; what cannot be printed is escaped."""
    told = [printable(name) for name in names[:_NAMES_TOLD]] + ["…"] * (len(names) > _NAMES_TOLD)
    return f"{units.counted(len(names), 'file')} of the folder: {', '.join(told)}"


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
        documents, tokens = units.counted(facts.documents, "document"), units.counted(facts.tokens, "token")
        lines.append(f"  {split:<11} {documents}, {tokens}, {text} of text")
    lines.append(f"  in all      {report.bytes_per_token:.2f} bytes of text a token")
    if manifest.duplicates:
        lines.append(f"  left out    {units.counted(manifest.duplicates, 'document')} whose text stood before")
    if manifest.validation_in_training:
        documents = units.counted(manifest.validation_in_training, "validation document")
        lines.append(f"  not leaked  {documents} stood in training too")
    if manifest.dropped_short:
        lines.append(f"  left out    {units.counted(manifest.dropped_short, 'document')} too short")
    if manifest.dropped_invalid:
        lines.append(f"  left out    {units.counted(manifest.dropped_invalid, 'document')} not valid UTF-8")
    return "\n".join(lines)
