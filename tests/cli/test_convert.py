import json
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from gemmazero import api
from gemmazero.cli.app import app
from gemmazero.cli.convert import in_words


def test_verdict_says_what_was_compared_with_what(story_model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["convert", str(story_model), str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    assert "the same model, huggingface, fp32" in result.stdout.splitlines()[0]
    for part in ("OUT read by", "largest difference", "0 differ"):
        assert part in result.stdout


def test_json_is_the_verdict(story_model: Path, tmp_path: Path) -> None:
    command = ["convert", str(story_model), str(tmp_path / "out"), "--to", "gemmazero", "--dtype", "bf16", "--json"]
    verdict = json.loads(CliRunner().invoke(app, command).stdout)
    assert (verdict["ok"], verdict["to"], verdict["dtype"]) == (True, "gemmazero", "bf16")
    assert verdict["folder"] == str(tmp_path / "out")


def test_mismatch_is_said_first(story_model: Path, tmp_path: Path) -> None:
    verdict = replace(api.convert(story_model, tmp_path / "out"), mismatched_texts=3)
    assert "NOT the same model" in in_words(verdict).splitlines()[0]
    assert "3 differ" in in_words(verdict)


def test_wrong_next_tokens_are_counted_in_words(story_model: Path, tmp_path: Path) -> None:
    verdict = api.convert(story_model, tmp_path / "out")
    assert "  wrong  " not in in_words(verdict)
    told = in_words(replace(verdict, different_next_tokens=5, wrong_next_tokens=2))
    assert "NOT the same model" in told
    assert f"{verdict.next_tokens} next tokens, 5 chosen otherwise" in told
    assert "wrong      2 of those" in told
