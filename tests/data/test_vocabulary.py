import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tiktoken
from tokenizers.pre_tokenizers import ByteLevel

from gemmazero.data.vocabulary import (
    BYTE_CHARACTERS,
    byte_vocabulary,
    encode_bytes,
    encode_joined,
    gpt2_vocabulary,
    merged_vocabulary,
    trained_vocabulary,
)
from gemmazero.errors import DataError, UsageError

CACHE = Path(__file__).parents[3] / "shared/data/tiktoken_cache"
NAMES = ("ant", "bear", "cat", "dog", "eel", "fox", "goat", "hen")
END = "<|endoftext|>"
STORIES = [f"The {one} saw the {other}, and the {one} smiled.\n" for one in NAMES for other in NAMES if one != other]


def small_encoding(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """tiktoken with GPT-2's split and these ranks; the end of a document comes after them."""
    split = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return tiktoken.Encoding("small", pat_str=split, mergeable_ranks=ranks, special_tokens={END: len(ranks)})


def test_byte_characters_are_the_byte_level_alphabet():
    assert sorted(BYTE_CHARACTERS) == sorted(ByteLevel.alphabet())
    assert [BYTE_CHARACTERS[ord(character)] for character in "A \n"] == ["A", "Ġ", "Ċ"]


def test_byte_vocabulary_gives_each_byte_its_value():
    backend = byte_vocabulary()
    assert backend.encode("aé\n 😀").ids == list("aé\n 😀".encode())
    assert backend.token_to_id("<|endoftext|>") == 256


@pytest.mark.skipif(not CACHE.is_dir(), reason="no ../shared/data/tiktoken_cache")
def test_gpt2_merges_are_the_published_ones_in_order(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    backend, _ = gpt2_vocabulary()
    published = (CACHE / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee").read_text(encoding="utf-8").split("\n")[1:-1]
    assert [" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]] == published
    assert backend.get_vocab_size() == tiktoken.get_encoding("gpt2").n_vocab == 50257


def test_trained_ids_are_tiktokens_for_the_same_ranks_and_its_file_of_merges_gives_back_the_vocabulary():
    backend = trained_vocabulary("290", lambda: STORIES, turn_tokens=False)
    spelled = {token_id: token for token, token_id in backend.get_vocab().items()}
    ranks = {bytes(map(BYTE_CHARACTERS.index, spelled[rank])): rank for rank in range(289)}
    encoding = small_encoding(ranks)
    for text in (*STORIES, "They've  seen 12 hens!\n\n", "naïve 😀\ttheee"):
        assert backend.encode(text).ids == encoding.encode_ordinary(text)
    merges = json.loads(backend.to_str())["model"]["merges"]
    vocab_bpe = "".join(f"{line}\n" for line in ("#version: 0.2", *map(" ".join, merges)))
    assert merged_vocabulary(encoding, vocab_bpe).to_str() == backend.to_str()


def test_gpt2_without_its_files_names_them_and_the_offline_choices(tmp_path):
    program = (
        "from gemmazero.data.vocabulary import gpt2_vocabulary\n"
        "from gemmazero.errors import DataError\n"
        "try: gpt2_vocabulary()\n"
        "except DataError as error: print(error.message, error.hint)\n"
    )
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9") | {"NO_PROXY": "", "no_proxy": ""}
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | nowhere | {"TIKTOKEN_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stderr == ""
    for part in (
        "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
        "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
        "TIKTOKEN_CACHE_DIR",
        "--tokenizer bytes",
        "--tokenizer bpe:8192",
    ):
        assert part in answer.stdout


@pytest.mark.parametrize("turn_tokens", [False, True])
def test_trained_ids_are_bytes_then_merges_then_the_end(turn_tokens):
    backend = trained_vocabulary("290", lambda: STORIES, turn_tokens=turn_tokens)
    end = 287 if turn_tokens else 289  # room is left for two turn tokens
    assert sorted(backend.get_vocab().values()) == list(range(end + 1))
    assert [backend.token_to_id(character) for character in BYTE_CHARACTERS] == list(range(256))
    assert backend.token_to_id("<|endoftext|>") == end
    assert len(backend.encode(" The cat smiled.").ids) < len(" The cat smiled.")


def test_training_depends_on_the_documents_alone():
    program = (
        "import json, sys\n"
        "from gemmazero.data.vocabulary import trained_vocabulary\n"
        "documents = json.load(sys.stdin)\n"
        "sys.stdout.write(trained_vocabulary('290', lambda: documents, turn_tokens=False).to_str())\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
            input=json.dumps(STORIES),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert texts == {trained_vocabulary("290", lambda: STORIES, turn_tokens=False).to_str()}


@pytest.mark.parametrize("turn_tokens", [False, True])
def test_too_little_text_names_the_largest_size_that_it_gives(turn_tokens):
    with pytest.raises(DataError, match=r"too small .* it gives (\d+) tokens") as caught:
        trained_vocabulary("5000", lambda: STORIES, turn_tokens=turn_tokens)
    largest = caught.value.message.split()[-2]
    assert f"bpe:{largest}" in caught.value.hint
    trained_vocabulary(largest, lambda: STORIES, turn_tokens=turn_tokens)
    with pytest.raises(DataError):
        trained_vocabulary(str(int(largest) + 1), lambda: STORIES, turn_tokens=turn_tokens)


def test_the_smallest_size_needs_no_text():
    assert trained_vocabulary("257", list, turn_tokens=False).to_str() == byte_vocabulary().to_str()


@pytest.mark.parametrize("size", ["", "many", "-5", "1e3", "256", "200001", "٣٠٠", " 300", "3_00", "9" * 5000])
def test_a_size_out_of_range_is_wrong_usage(size):
    with pytest.raises(UsageError, match="whole number from 257 to 200000"):
        trained_vocabulary(size, lambda: STORIES, turn_tokens=False)


def test_turn_tokens_count_towards_the_size():
    with pytest.raises(UsageError, match="from 259"):
        trained_vocabulary("258", lambda: STORIES, turn_tokens=True)


@pytest.mark.skipif(not CACHE.is_dir(), reason="no ../shared/data/tiktoken_cache")
def test_joined_documents_have_the_ids_of_each_alone(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    encoding = tiktoken.get_encoding("gpt2")
    _, encode_fast = gpt2_vocabulary()
    strange = ["", "  ", "a ", " b", "\n\n", END, "<|endof", "text|>", f"x{END}y", "é😀"]
    for texts in ([], strange, strange * 50, ["plain  text "] * 200, [*["a "] * 63, END, *[" b"] * 64]):
        alone = [id_ for text in texts for id_ in (*encoding.encode_ordinary(text), encoding.eot_token)]
        ids = encode_fast(texts)
        assert ids.dtype == "<u2"
        assert ids.tolist() == alone


@pytest.mark.parametrize("neighbour", ["a  b", END])
def test_a_million_blanks_in_a_row_have_the_ids_that_the_split_says(neighbour: str) -> None:
    encoding = small_encoding({bytes([byte]): byte for byte in range(256)} | {b"  ": 256})
    encode = partial(encode_joined, encoding, partial(merged_vocabulary, encoding, "#version: 0.2\nĠ Ġ\n"))
    alone = [*encoding.encode_ordinary(neighbour), 257]
    for pairs in (5, 500_000):
        texts = [neighbour, "  " * pairs + " a", neighbour]
        for encode_anywhere in (encode, pickle.loads(pickle.dumps(encode))):
            assert encode_anywhere(texts).tolist() == [*alone, *[256] * pairs, *b" a", 257, *alone]


@pytest.mark.skipif(not CACHE.is_dir(), reason="no ../shared/data/tiktoken_cache")
@pytest.mark.parametrize("space", [" ", *(pytest.param(space, marks=pytest.mark.slow) for space in ("\n", "\t "))])
def test_gpt2_takes_a_million_blanks_in_a_row(monkeypatch, space):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    backend, encode_fast = gpt2_vocabulary()
    text = space * 1_000_000 + "a"
    assert encode_fast([END, text]).tolist() == [*encode_fast([END]), *backend.encode(text).ids, 50256]


def test_bytes_of_documents_end_with_the_end_of_each():
    assert encode_bytes(["é", "", "<|endoftext|>"]).tolist() == [*"é".encode(), 256, 256, *b"<|endoftext|>", 256]
    assert encode_bytes([]).tolist() == []
