import base64
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece_style import gemma_style, llama_style, metaspace

from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.data.tokenizer_file import read_special_tokens, read_tokenizer
from gemmazero.errors import DataError
from hostile.mutation import changed_value

BYTES = json.loads(make_tokenizer("bytes", list, turn_tokens=True)._text)
USED_AGAIN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, record: Any) -> Path:
    file = folder / "tokenizer.json"
    file.write_text(record if isinstance(record, str) else json.dumps(record, ensure_ascii=False))
    return file


def refusal(folder: Path, record: Any) -> str:
    with pytest.raises(DataError) as raised:
        read_tokenizer(written(folder, record))
    assert "tokenizer.json" in raised.value.message
    assert raised.value.hint
    return raised.value.message


@pytest.mark.parametrize("make", [gemma_style, llama_style, metaspace])
def test_foreign_tokenizers_are_let_through_as_they_are(tmp_path: Path, make: Any) -> None:
    file = written(tmp_path, make().to_str(pretty=True))
    data, added = read_tokenizer(file)
    assert data == file.read_bytes()
    assert added == {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}


@pytest.mark.parametrize(
    "steps",
    [
        {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": text}, "content": text.upper()} for text in "abcdefghijklmnop"]}},
        {"normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            {"type": "Prepend", "prepend": "▁"}]}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(
            (1024).to_bytes(4, "little") + bytes(1024) + b"fi\0tm\0").decode()}},
        {"truncation": {"max_length": 10**30}, "padding": {"strategy": {"Fixed": 10**12}}},
    ],
)  # fmt: skip
def test_steps_as_tokenizers_in_use_have_them_are_let_through(tmp_path: Path, steps: dict[str, Any]) -> None:
    read_tokenizer(written(tmp_path, BYTES | steps))


@pytest.mark.parametrize("content", ["x" * 1001, "x" * 100_000])
def test_step_that_makes_a_text_much_longer_is_refused(tmp_path: Path, content: str) -> None:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    message = refusal(tmp_path, BYTES | {"normalizer": step})
    assert "longer" in message or "too long" in message


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "decoder"])
def test_steps_that_double_again_and_again_are_refused(tmp_path: Path, part: str) -> None:
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    nested: Any = double
    for _ in range(10):
        nested = {"type": "Sequence", "steps": [double, nested]}
    assert "more than 1000 times longer" in refusal(tmp_path, BYTES | {part: nested})


@pytest.mark.parametrize("charsmap", ["AAAA", "////////", "", None, 7, "€", base64.b64encode(bytes(5000)).decode()])
def test_table_of_characters_that_is_none_is_refused(tmp_path: Path, charsmap: Any) -> None:
    step = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    assert "precompiled_charsmap" in refusal(tmp_path, BYTES | {"normalizer": step})


def test_unigram_vocabulary_is_measured_by_its_beginnings(tmp_path: Path) -> None:
    model = {"type": "Unigram", "unk_id": 0}
    alike = [["x" * length, -1.0] for length in range(1, 2000)]  # one tree of 2000 nodes
    read_tokenizer(written(tmp_path, BYTES | {"model": model | {"vocab": alike}}))
    unlike = [[f"{number:05d}" * 50, -1.0] for number in range(5000)]
    assert "vocab is too large" in refusal(tmp_path, BYTES | {"model": model | {"vocab": unlike}})


@USED_AGAIN
@given(st.integers(0, 2**32))
def test_any_change_is_let_through_or_a_data_error(tmp_path: Path, seed: int) -> None:
    chance, record = random.Random(seed), copy.deepcopy(BYTES)
    for _ in range(chance.randint(1, 3)):
        record = changed_value(record, chance)
    file = written(tmp_path, record)
    try:
        data, _ = read_tokenizer(file)
    except DataError:
        return
    assert data == file.read_bytes()


def test_special_tokens_are_texts_and_everything_else_is_passed_over(tmp_path: Path) -> None:
    config = {
        "eos_token": {"content": "<eos>"},
        "bos_token": None,
        "pad_token": 7,
        "auto_map": {"AutoTokenizer": "x.Y"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text("{{ 7 * 7 }}")
    assert read_special_tokens(tmp_path) == {"eos_token": "<eos>", "chat_template": "{{ 7 * 7 }}"}


def test_no_config_says_nothing(tmp_path: Path) -> None:
    assert read_special_tokens(tmp_path) == {}
