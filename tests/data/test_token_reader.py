import io
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from reading import training

from gemmazero.config import PrepareConfig
from gemmazero.data import token_reader
from gemmazero.data.prepare import prepare
from gemmazero.data.shards import TokenShards
from gemmazero.data.token_reader import read_tokens
from gemmazero.data.tokenizer import make_tokenizer
from gemmazero.errors import DataError, UsageError

CACHE = Path(__file__).parents[3] / "shared/data/tiktoken_cache"
BYTES = make_tokenizer("bytes", list, turn_tokens=True)
END = 256


def written(path: Path, ids: list[int], dtype: str = "<u2") -> Path:
    np.array(ids, dtype).tofile(path)
    return path


def test_documents_are_what_the_ids_spell_up_to_each_end(tmp_path: Path) -> None:
    ids = [*b"Once", END, *"é".encode(), END, END, *b"upon"]
    assert training(written(tmp_path / "s.bin", ids), tokenizer="bytes") == ["Once", "é", "", "upon"]


@given(texts=st.lists(st.text()))
def test_ids_of_any_texts_give_the_texts(texts: list[str]) -> None:
    data = BYTES.encode_documents(texts).tobytes()
    assert list(read_tokens(io.BytesIO(data), "it", BYTES)) == texts


@pytest.mark.parametrize("size", [4, 6, 100])
def test_document_is_whole_wherever_a_read_ends(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(token_reader, "_BYTES_A_READ", size)
    texts = ["Once upon a time", "", "é" * 30]
    data = BYTES.encode_documents(texts).tobytes()
    assert list(read_tokens(io.BytesIO(data), "it", BYTES)) == texts


def test_ids_of_four_bytes_are_seen(tmp_path: Path) -> None:
    ids = [*b"Once", END, *b"upon", END]
    assert training(written(tmp_path / "s.bin", ids, "<u4"), tokenizer="bytes") == ["Once", "upon"]


def test_ids_that_spell_no_text_are_none_and_a_replacement_character_is_text() -> None:
    ids = [*b"good", END, 0xC3, END, *b"caf\xe9", END, *"\ufffd".encode(), END]
    data = np.array(ids, "<u2").tobytes()
    assert list(read_tokens(io.BytesIO(data), "it", BYTES)) == ["good", None, None, "\ufffd"]


def test_nanogpts_folder_is_its_two_files(tmp_path: Path) -> None:
    written(tmp_path / "train.bin", [*b"Once", END])
    written(tmp_path / "val.bin", [*b"upon", END])
    for other in ("input.txt", "readme.md", "meta.pkl", "prepare.py", "more.bin"):
        (tmp_path / other).write_bytes(b"\x80 not read")
    prepare(str(tmp_path), tmp_path / "out", PrepareConfig(tokenizer="bytes"))
    for split, text in (("train", b"Once"), ("validation", b"upon")):
        shards = TokenShards(tmp_path / "out", split)
        assert shards.read(0, len(shards)).tolist() == [*text, END]


@pytest.mark.skipif(not CACHE.is_dir(), reason="no ../shared/data/tiktoken_cache")
def test_ids_of_gpt2_are_prepared_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
    encoding = tiktoken.get_encoding("gpt2")
    texts = [f"Story {number}: don't <|endoftext|> \n\n stop, naïve 日本語 😀  " for number in range(50)]
    ids = [token for text in texts for token in (*encoding.encode_ordinary(text), encoding.eot_token)]
    source = written(tmp_path / "train.bin", ids)
    prepare(str(source), tmp_path / "out", PrepareConfig(tokenizer="gpt2", validation_fraction=0.0))
    shards = TokenShards(tmp_path / "out", "train")
    assert shards.read(0, len(shards)).tolist() == ids


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.array([5, 259], "<u2").tobytes(), "holds the id 259, and the tokenizer has 259"),
        (np.array([5, 2**31], "<u4").tobytes(), "holds the id 32768"),
        (np.array([5, 257], "<u2").tobytes(), 'holds the id 257, "<start_of_turn>", which is no text'),
        (b"a\0b", "ends within an id of 2 bytes"),
    ],
)
def test_ids_that_the_tokenizer_never_gives_to_text_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_tokens(io.BytesIO(data), "it", BYTES))


def test_document_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_reader, "MOST_IDS", 100)
    assert list(read_tokens(io.BytesIO(b"a\0" * 100), "it", BYTES)) == ["a" * 100]
    with pytest.raises(DataError, match=r"no end-of-document id \(256\) among 100 ids"):
        list(read_tokens(io.BytesIO(b"a\0" * 101), "it", BYTES))


def test_tokenizer_of_the_ids_must_be_named(tmp_path: Path) -> None:
    source = written(tmp_path / "train.bin", [*b"Once", END])
    for place in (source, tmp_path):
        with pytest.raises(UsageError, match="holds token ids") as error:
            prepare(str(place), tmp_path / "out", PrepareConfig())
        assert "--tokenizer" in error.value.hint
    with pytest.raises(UsageError, match="is trained on text"):
        training(source, tokenizer="bpe:300")
    with pytest.raises(UsageError, match="--document-separator is for text"):
        training(source, tokenizer="bytes", document_separator="x")
