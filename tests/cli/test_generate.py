import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from gemmazero.cli.app import app
from gemmazero.errors import DataError
from gemmazero.native_code import compiler


def generate(model: Path, *arguments: object, **options: Any) -> Result:
    command = ["generate", *map(str, arguments), "--model", str(model), "--max-tokens", "16", "--device", "cpu"]
    return CliRunner().invoke(app, command, **options)


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_has_the_promised_keys_a_line_each_in_the_order_asked(story_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("One\n\nTwo\n", encoding="utf-8")
    found = records(generate(story_model, "--prompts", prompts, "--samples", 2, "--seed", 5, "--json"))
    assert [record["prompt"] for record in found] == ["One", "One", "Two", "Two"]
    assert len({record["text"] for record in found}) == 4
    for record in found:
        assert set(record) == {
            "prompt", "text", "tokens", "finish", "seconds", "tokens_per_second",
            "first_token_seconds", "steady_tokens_per_second",
        }  # fmt: skip
        assert 0 < record["first_token_seconds"] < record["seconds"]
        assert record["steady_tokens_per_second"] > 14 / (record["seconds"] - record["first_token_seconds"])
        assert (record["tokens"], record["finish"]) == (16, "length")


def test_prompts_with_line_breaks_come_from_json_lines(story_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "One\\ntwo"}\n{"prompt": ""}\n', encoding="utf-8")
    found = records(generate(story_model, "--prompts", prompts, "--json"))
    assert [record["prompt"] for record in found] == ["One\ntwo", ""]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_prompts_end_where_a_line_ends_and_nowhere_else(story_model: Path, tmp_path: Path, mark: bytes) -> None:
    plain, lines = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    plain.write_bytes(mark + "one\u2028two\x0cthree\x85four\r\nfive\n".encode())
    lines.write_bytes(mark + '{"prompt": "one\u2028two"}\n'.encode())
    found = records(generate(story_model, "--prompts", plain, "--json"))
    assert [record["prompt"] for record in found] == ["one\u2028two\x0cthree\x85four", "five"]
    assert [record["prompt"] for record in records(generate(story_model, "--prompts", lines, "--json"))] == [
        "one\u2028two"
    ]


def test_more_samples_than_memory_are_wrong_usage(story_model: Path) -> None:
    assert generate(story_model, "Once", "--samples", 10**21).exit_code == 2


@pytest.mark.parametrize("line", ["no json", "[]", '{"text": "a"}', '{"prompt": 1}', "[" * 9000])
def test_json_line_without_a_prompt_is_named(story_model: Path, tmp_path: Path, line: str) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(line, encoding="utf-8")
    result = generate(story_model, "--prompts", prompts)
    assert isinstance(result.exception, DataError)
    assert line[:80] in result.exception.message


def test_streamed_text_is_the_text(story_model: Path) -> None:
    arguments = ["Once", "--seed", 7]
    [record] = records(generate(story_model, *arguments, "--json"))
    assert generate(story_model, *arguments).stdout == record["text"] + "\n"
    assert generate(story_model, *arguments, "--no-stream").stdout == record["text"] + "\n"
    assert generate(story_model, "-", "--seed", 7, input="Once\n").stdout == record["text"] + "\n"


def test_first_of_several_stop_texts_ends_the_text_before_it(story_model: Path) -> None:
    arguments = ["Once", "--seed", 7, "--json"]
    [whole] = records(generate(story_model, *arguments))
    first, second = whole["text"][3:5], whole["text"][6:8]
    [stopped] = records(generate(story_model, *arguments, "--stop", second, "--stop", first))
    assert (stopped["text"], stopped["finish"]) == (whole["text"][: whole["text"].index(first)], "stop")


def test_verbose_tells_tokens_speed_and_seed_on_stderr(story_model: Path) -> None:
    quiet = generate(story_model, "Once", "--seed", 7)
    verbose = generate(story_model, "Once", "--seed", 7, "--verbose")
    assert verbose.stdout == quiet.stdout
    for part in (
        "16 tokens in",
        "tokens/s: the first after 0.",
        "s, then",
        "ended by the length",
        "seed 7",
        str(story_model),
    ):
        assert part in verbose.stderr


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
def test_verbose_tells_nothing_of_a_compiler_that_is_there(story_model: Path) -> None:
    assert "without machine code" not in generate(story_model, "Once", "--verbose").stderr


def test_verbose_tells_that_there_is_no_compiler(
    story_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "without machine code" not in generate(story_model, "Once").stderr
    assert "without machine code" not in generate(story_model, "Once", "--verbose", "--no-compile").stderr
    assert "without machine code, thus slower: there is no C++ compiler" in (
        generate(story_model, "Once", "--verbose").stderr
    )


def test_text_that_is_not_utf8_is_refused(story_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes(b"caf\xe9\n")
    for result in (
        generate(story_model, "--prompts", prompts),
        generate(story_model, "-", input=b"caf\xe9"),
        generate(story_model, "caf\udce9"),
    ):
        assert isinstance(result.exception, DataError)
        assert "not valid UTF-8" in result.exception.message


def test_8_bit_weights_write_a_text(story_model: Path) -> None:
    (record,) = records(generate(story_model, "Once", "--dtype", "int8", "--json"))
    assert (record["tokens"], record["finish"]) == (16, "length")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's compiler
def test_compiling_changes_no_word(story_model: Path) -> None:
    plain = generate(story_model, "Once", "--temperature", 0, "--no-compile")
    assert generate(story_model, "Once", "--temperature", 0, "--compile").stdout == plain.stdout != ""
    with torch.compiler.set_stance("force_eager"):  # by torch's compiler, which takes a minute
        compiled = generate(story_model, "Once", "--temperature", 0, "--compile", "--dtype", "fp16")
    assert "compiling the model" in compiled.stderr
    assert compiled.stdout == generate(story_model, "Once", "--temperature", 0, "--dtype", "fp16").stdout
