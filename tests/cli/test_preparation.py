from pathlib import Path

import pytest

from gemmazero.cli.preparation import PreparationProgress, summary
from gemmazero.config import PrepareConfig
from gemmazero.data.prepare import Prepared, PrepareReport, Surveyed, Tokenized, preparing


def shown(source: Path, out: Path) -> PrepareReport:
    with PreparationProgress() as progress:
        for event in preparing(str(source), out, PrepareConfig(tokenizer="bytes", min_characters=3)):
            progress.show(event)
    assert isinstance(event, Prepared)
    return event.report


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "stories.jsonl"
    lines = [b'{"text": "story %d"}' % number for number in range(300)]
    source.write_bytes(b"\n".join([*lines, b'{"text": "s"}', b'{"text": "\xe9\xe9\xe9"}']))
    return source


def test_every_fact_is_a_plain_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(source, tmp_path / "out")
    text = capsys.readouterr().err
    for part in (
        "reading stories.jsonl at sha256:",
        "found 300 documents",
        "tokenizing with bytes, 257 ids",
        "100%: 300",
    ):
        assert part in text
    assert "\x1b" not in text


def test_tokens_are_told_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with PreparationProgress() as progress:
        progress.show(Surveyed(documents=1000, text_bytes=1000, dropped_short=0, dropped_invalid=0))
        for done in range(25, 1001, 25):
            progress.show(Tokenized(documents=done, tokens=done, text_bytes=done))
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [f"{tenth}0%" for tenth in range(1, 11)]


def test_summary_counts_what_was_kept_and_left_out(source: Path, tmp_path: Path) -> None:
    text = summary(shown(source, tmp_path / "out"))
    for part in (
        "out is ready",
        "bytes, 257 ids",
        "exact",
        "1 documents that are too short",
        "1 documents that are not",
    ):
        assert part in text
    assert "was there already" in summary(shown(source, tmp_path / "out"))
