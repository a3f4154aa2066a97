from pathlib import Path

import pytest

from gemmazero.cli.preparation import PreparationProgress, summary
from gemmazero.config import PrepareConfig
from gemmazero.data.events import (
    Continued,
    Opened,
    Prepared,
    PrepareReport,
    SampleChosen,
    Sampled,
    StartedOver,
    Tokenized,
    TokenizerMade,
)
from gemmazero.data.prepare import preparing


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
    source.write_bytes(b"\n".join([*lines, lines[7], b'{"text": "s"}', b'{"text": "\xe9\xe9\xe9"}']))
    return source


def test_every_fact_is_a_plain_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(source, tmp_path / "out")
    text = capsys.readouterr().err
    for part in (
        "reading stories.jsonl at sha256:",
        "tokenizing with bytes, 257 ids",
    ):
        assert part in text
    assert "\x1b" not in text


def test_count_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with PreparationProgress() as progress:
        for phase in (Sampled(1, 10**8), SampleChosen(6_000_000), TokenizerMade("bpe:300", 300)):
            progress.show(phase)
        for done in range(0, 1_000_000_001, 10_000_000):
            progress.show(Tokenized(documents=done // 1000, tokens=done // 4, text_bytes=done))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training the tokenizer on 6.0 MB of text"
    assert lines[2] == "200,000 documents, 200.0 MB of text, 50,000,000 tokens"
    assert len(lines) == 2 + 5


def test_what_is_gone_on_with_and_what_is_not_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with PreparationProgress() as progress:
        progress.show(StartedOver('its seed is "0", not "1"'))
        progress.show(Continued(5000))
    text = capsys.readouterr().err
    assert 'its seed is "0", not "1"' in text
    assert "going on after 5,000 tokens" in text


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), ""),
        (("a.tsv",), "passed over 1 file of the folder: a.tsv\n"),
        (tuple("abcd\x1b"), "passed over 5 files of the folder: a, b, c, d, \\x1b\n"),
        (tuple("abcdef"), "passed over 6 files of the folder: a, b, c, d, e, …\n"),
    ],
)
def test_files_of_a_folder_that_are_passed_over_are_counted_and_some_named(
    names: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with PreparationProgress() as progress:
        progress.show(Opened("texts", None, names))
    assert capsys.readouterr().err == "reading texts\n" + said


def test_summary_counts_what_was_kept_and_left_out(source: Path, tmp_path: Path) -> None:
    text = summary(shown(source, tmp_path / "out"))
    for part in (
        "out is ready",
        "bytes, 257 ids",
        "exact",
        "  1 document too short",
        "  1 document not valid UTF-8",
        "  1 document whose text stood before",
        "bytes of text a token",
    ):
        assert part in text
    assert "was there already" in summary(shown(source, tmp_path / "out"))
