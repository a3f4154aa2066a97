import hashlib
import io
import json
import sys
from pathlib import Path

import pytest

from gemmazero.config import PrepareConfig
from gemmazero.data.documents import Source
from gemmazero.data.prepare import default_folder
from gemmazero.data.sources import open_source
from gemmazero.errors import DataError, UsageError
from program import Program


def fed(monkeypatch: pytest.MonkeyPatch, data: bytes, **options: str) -> Source:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return open_source("-", PrepareConfig(**options))  # type: ignore[arg-type]


def test_text_is_one_document_and_an_object_begins_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, options, documents in (
        (b"\xef\xbb\xbfOnce\nupon\n", {}, ["Once\nupon\n"]),
        (b'\xef\xbb\xbf\n {"text": "a"}\n{"text": "b"}\n', {}, ["a", "b"]),
        (b'{"story": "a"}\n', {"text_column": "story"}, ["a"]),
        (b'{"text": "a"}--b', {"document_separator": "--"}, ['{"text": "a"}', "b"]),
        (b"one\n\ntwo\n", {"document_separator": r"\n\n"}, ["one", "two"]),
        (b"caf\xe9", {}, [None]),
        (b'["a"]', {}, ['["a"]']),
    ):
        assert list(fed(monkeypatch, data, **options).load().training()) == documents


@pytest.mark.parametrize("options", [{}, {"document_separator": "--"}])
def test_utf16_is_told_as_such(monkeypatch: pytest.MonkeyPatch, options: dict[str, str]) -> None:
    splits = fed(monkeypatch, "one--two".encode("utf-16"), **options).load()
    with pytest.raises(DataError, match="standard input is written in UTF-16"):
        list(splits.training())


def test_standard_input_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    source = fed(monkeypatch, b"Once")
    assert source.name == "stdin"
    assert source.revision == f"sha256:{hashlib.sha256(b'Once').hexdigest()}"
    assert default_folder("-") == Path("data/stdin")


def test_it_can_be_read_again_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number} {'x' * 1000}" for number in range(1000)]
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    splits = fed(monkeypatch, data.encode()).load()
    assert splits.validation is None
    first = splits.training()
    started = [next(first), next(first)]
    assert list(splits.training()) == texts
    assert started + list(first) == texts


def test_nothing_and_options_of_the_hub_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nothing came on standard input"):
        fed(monkeypatch, b"")
    with pytest.raises(UsageError, match="is for Hub datasets"):
        fed(monkeypatch, b"text", subset="small")


def test_program_prepares_what_it_is_given_and_knows_it_again(gemmazero: Program, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"story {number}"}) + "\n" for number in range(30))
    for again in (False, True):
        done = gemmazero("prepare", "-", "--tokenizer", "bytes", "--json", input=lines)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["folder"], report["reused"]) == ("data/stdin", again)
    other = gemmazero("prepare", "-", "--tokenizer", "bytes", input=lines + '{"text": "more"}')
    assert other.returncode == 1
    assert "was prepared with revision" in other.stderr
