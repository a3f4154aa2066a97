import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece_style import gemma_style, llama_style, metaspace
from tokenizers import decoders

from gemmazero.data.decoding import StreamDecoder
from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.data.vocabulary import END_OF_DOCUMENT, byte_vocabulary

TEXTS = ["the cat sat on the mat", "naïve 😀😀 日本語 café", "  two  spaces ", "\ufffd\ufffd", ""]


def nested_byte_level() -> Tokenizer:
    backend = byte_vocabulary()
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
    return Tokenizer(backend, "nested", END_OF_DOCUMENT)


def with_a_token_outside_the_byte_alphabet() -> Tokenizer:
    backend = byte_vocabulary()
    backend.add_special_tokens(["<｜end｜>"])
    return Tokenizer(backend, "wide", "<｜end｜>")


def strips_two_spaces() -> Tokenizer:
    backend = llama_style()
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 2, 0)])
    return Tokenizer(backend, "strips", "<eos>")


TOKENIZERS = {
    "bytes": make_tokenizer("bytes", list, turn_tokens=True),
    "bpe": make_tokenizer("bpe:280", lambda: TEXTS * 9, turn_tokens=False),
    "wide": with_a_token_outside_the_byte_alphabet(),
    "nested": nested_byte_level(),
    "gemma": Tokenizer(gemma_style(), "gemma", "<eos>").with_turn_tokens(),
    "llama": Tokenizer(llama_style(), "llama", "<eos>"),
    "strips": strips_two_spaces(),
    "metaspace": Tokenizer(metaspace(), "metaspace", "<eos>"),
}
every_kind = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(token_id) for token_id in ids), decoder.flush()]


@every_kind
@settings(max_examples=150)
@given(data=st.data())
def test_pieces_join_to_the_decoding_of_any_ids(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 2), max_size=40))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@every_kind
@settings(max_examples=150)
@given(data=st.data())
def test_pieces_join_for_runs_of_spaces_characters_and_broken_bytes(tokenizer, data):
    fragments = [tokenizer.encode(text) for text in (" ", "  ", "é", "😀", " the", "a", "\ufffd")]
    fragments += [fragment[:-1] for fragment in fragments if len(fragment) > 1]  # half characters
    drawn = data.draw(st.lists(st.sampled_from(fragments), max_size=15))
    ids = [token_id for fragment in drawn for token_id in fragment]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


@every_kind
@given(text=st.text(max_size=30).filter(lambda text: "\ufffd" not in text))
def test_no_piece_of_valid_text_holds_half_a_character(tokenizer, text):
    assert not any("\ufffd" in piece for piece in stream(tokenizer, tokenizer.encode(text)))


def test_a_piece_comes_with_the_id_that_completes_it():
    assert stream(TOKENIZERS["bytes"], list("aé😀!".encode())) == ["a", "", "é", "", "", "", "😀", "!", ""]
    ids = TOKENIZERS["llama"].encode("the at")
    assert stream(TOKENIZERS["llama"], ids) == ["the", " a", "t", ""]


@every_kind
def test_special_tokens_show_as_their_text_at_once(tokenizer):
    assert stream(tokenizer, [tokenizer.end_id])[0] == tokenizer.end_token


@pytest.mark.parametrize(
    ("broken", "text"),
    [(b"\xf0\x9f\x98", "\ufffd"), (b"\xf0\x9fa", "\ufffda"), (b"\x80\x80", "\ufffd\ufffd"), (b"\xc3(", "\ufffd(")],
)
def test_an_incomplete_character_is_one_replacement_character(broken, text):
    assert "".join(stream(TOKENIZERS["bytes"], list(broken))) == text


@every_kind
def test_flush_ends_one_stream_and_begins_another(tokenizer):
    decoder = StreamDecoder(tokenizer)
    for text in ("the é", "the é", " a"):
        ids = tokenizer.encode(text)
        half = ids[:-1] if len(ids) > 1 else ids
        assert "".join(map(decoder.push, half)) + decoder.flush() == tokenizer.decode(half)
    assert decoder.flush() == ""


@every_kind
def test_the_cost_of_an_id_does_not_grow_with_the_stream(tokenizer, monkeypatch):
    decoded = []
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    ids = random.Random(0).choices(range(tokenizer.vocab_size), k=2000) + tokenizer.encode(" ") * 2000
    stream(tokenizer, ids)
    assert sum(decoded) < 20 * len(ids)
