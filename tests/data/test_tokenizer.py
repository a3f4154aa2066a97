import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece_style import gemma_style, llama_style
from transformers import AutoTokenizer

from gemmazero.data.tokenizer import Tokenizer, make_tokenizer
from gemmazero.errors import DataError, UsageError

CACHE = Path(__file__).parents[3] / "shared/data/tiktoken_cache"
TEXTS = [
    "Once upon a time there was a little dog.",
    "They're here!  Don't\n\n\tpanic; it's 12,345.67 o'clock   ",
    "naïve café — 😀👩‍👩‍👧 日本語 مرحبا \u0000\u0001\ufffd e\u0301",
    "<|endoftext|> <start_of_turn>user\nHi<end_of_turn> <eos><bos>",
    "",
    " ",
]
KINDS = ["gpt2", "bytes", "bpe:300"]


@pytest.fixture(scope="module", params=[(spec, turns) for spec in KINDS for turns in (False, True)], ids=str)
def own(request):
    """Each of our own tokenizers, without turn tokens and with them."""
    spec, turn_tokens = request.param
    if spec == "gpt2" and not CACHE.is_dir():
        pytest.skip("no ../shared/data/tiktoken_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
        return make_tokenizer(spec, lambda: TEXTS * 20, turn_tokens=turn_tokens)


@pytest.fixture
def foreign(tmp_path):
    """The folder of a Gemma-style tokenizer, as a model on the Hub would bring it."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    gemma_style().save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return folder


def saved(tokenizer, folder):
    """The folder as a model folder holds it: AutoTokenizer looks at the model type, too."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gemma3_text"}')
    tokenizer.save(folder)
    return folder


@given(text=st.text())
def test_decode_inverts_encode_on_any_text(own, text):
    assert own.decode(own.encode(text)) == text


def test_our_own_tokenizers_survive_every_round_trip(own):
    assert own.round_trip(TEXTS) == 1.0
    assert own.round_trip([]) == 1.0


def test_special_tokens_come_last(own):
    specials = [own.end_id, *(own.turn_ids or ())]
    assert specials == list(range(own.vocab_size - len(specials), own.vocab_size))


@pytest.mark.skipif(not CACHE.is_dir(), reason="no ../shared/data/tiktoken_cache")
@given(text=st.text() | st.sampled_from(TEXTS))
def test_gpt2_ids_are_tiktokens(gpt2, text):
    expected = tiktoken.get_encoding("gpt2").encode_ordinary(text)
    assert gpt2.encode(text) == expected
    assert gpt2.encode_documents([text]).tolist() == [*expected, 50256]


@pytest.fixture(scope="module")
def gpt2():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE))
        return make_tokenizer("gpt2", list, turn_tokens=False)


def test_documents_are_joined_each_with_its_end(own):
    ids = own.encode_documents(TEXTS)
    assert ids.tolist() == [token for text in TEXTS for token in (*own.encode(text), own.end_id)]
    assert ids.dtype == np.uint16
    assert own.encode_documents([]).tolist() == []


def test_ids_beyond_16_bits_take_32():
    vocabulary = {"a": 0, "b": 2**16 - 1, "</s>": 2**16}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer = Tokenizer(backend, "wide", "</s>")
    assert tokenizer.vocab_size == 2**16 + 1
    assert tokenizer.encode_documents(["ab"]).tolist() == [0, 2**16 - 1, 2**16]
    with pytest.raises(DataError, match="gaps"):
        tokenizer.with_turn_tokens()


def test_special_text_stays_text(own):
    text = "<|endoftext|><start_of_turn><end_of_turn>"
    for ids in (own.encode(text), own.encode_prompt(text), own.encode_documents([text])[:-1].tolist()):
        assert not {own.end_id, *(own.turn_ids or ())} & set(ids)
        assert own.decode(ids) == text


def test_special_ids_decode_to_their_text(own):
    assert own.decode([own.end_id, *(own.turn_ids or ())]).startswith("<|endoftext|>")
    if own.turn_ids:
        assert own.decode(list(own.turn_ids)) == "<start_of_turn><end_of_turn>"


@pytest.mark.parametrize("method", ["encode", "encode_prompt", "encode_documents"])
def test_an_unpaired_surrogate_is_an_error_that_says_where(own, method):
    argument = ["fine", "ab\ud800c"] if method == "encode_documents" else "ab\ud800c"
    with pytest.raises(DataError, match="surrogate at character 2"):
        getattr(own, method)(argument)


def test_a_surrogate_in_the_training_text_is_an_error():
    with pytest.raises(DataError, match="surrogate"):
        make_tokenizer("bpe:300", lambda: ["\ud800"], turn_tokens=False)


def test_stock_auto_tokenizer_gives_our_ids(own, tmp_path):
    stock = AutoTokenizer.from_pretrained(saved(own, tmp_path / "model"))
    for text in TEXTS:
        assert stock(text, split_special_tokens=True).input_ids == own.encode(text) == own.encode_prompt(text)
        assert stock.decode(own.encode(text)) == text
    assert stock("a<|endoftext|>").input_ids == [*own.encode("a"), own.end_id]
    assert (stock.eos_token_id, stock.pad_token_id, stock.bos_token_id) == (own.end_id,) * 3
    assert stock.clean_up_tokenization_spaces is False
    assert len(stock) == own.vocab_size


def test_chat_template_is_gemmas(tmp_path):
    tokenizer = make_tokenizer("bytes", list, turn_tokens=True)
    stock = AutoTokenizer.from_pretrained(saved(tokenizer, tmp_path / "model"))
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " Hi\n"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    expected = (
        "<start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )
    assert stock.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected
    ids = stock.apply_chat_template(messages[1:2], add_generation_prompt=False).input_ids
    start, end = tokenizer.turn_ids
    assert ids == [start, *b"user\nHi", end, *b"\n"]


def test_saving_and_loading_changes_nothing(own, tmp_path):
    first = saved(own, tmp_path / "first")
    loaded = Tokenizer.load(first)
    second = saved(loaded, tmp_path / "second")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (loaded.digest, loaded.end_id, loaded.turn_ids) == (own.digest, own.end_id, own.turn_ids)
    assert loaded.encode_documents(TEXTS).tolist() == own.encode_documents(TEXTS).tolist()
    assert own.digest == hashlib.sha256((first / "tokenizer.json").read_bytes()).hexdigest()


def test_digest_tells_vocabularies_apart():
    digests = {make_tokenizer("bytes", list, turn_tokens=turns).digest for turns in (False, True, False)}
    assert len(digests) == 2


def test_turn_tokens_are_added_once():
    tokenizer = make_tokenizer("bytes", list, turn_tokens=True)
    assert tokenizer.with_turn_tokens().digest == tokenizer.digest
    assert make_tokenizer("bytes", list, turn_tokens=False).turn_ids is None


def test_a_model_folder_keeps_its_prompt_template(foreign, tmp_path):
    tokenizer = Tokenizer.load(foreign)
    assert (tokenizer.name, tokenizer.end_token) == ("foreign", "<eos>")
    assert tokenizer.encode_prompt("the") == [2, *tokenizer.encode("the")]
    stock = AutoTokenizer.from_pretrained(saved(tokenizer, tmp_path / "model"))
    for text in TEXTS:
        assert stock(text, split_special_tokens=True).input_ids == tokenizer.encode_prompt(text)
    assert (stock.pad_token, stock.eos_token, stock.bos_token) == ("<pad>", "<eos>", "<bos>")
    stock = AutoTokenizer.from_pretrained(saved(tokenizer.with_turn_tokens(), tmp_path / "turns"))
    assert (stock.pad_token, stock.eos_token, stock.bos_token) == ("<pad>", "<eos>", "<bos>")
    assert json.loads((tmp_path / "model/tokenizer.json").read_text())["post_processor"]["type"] == "TemplateProcessing"


def test_a_foreign_tokenizer_for_data_adds_nothing_to_a_prompt(foreign, tmp_path):
    for spec in (foreign, foreign / "tokenizer.json"):
        tokenizer = make_tokenizer(str(spec), list, turn_tokens=True)
        stock = AutoTokenizer.from_pretrained(saved(tokenizer, tmp_path / f"from-{spec.name}"))
        for text in TEXTS:
            assert stock(text, split_special_tokens=True).input_ids == tokenizer.encode_prompt(text)
            assert tokenizer.encode_prompt(text) == tokenizer.encode(text)
        assert tokenizer.vocab_size == Tokenizer.load(foreign).vocab_size + 2


def test_a_foreign_chat_template_is_kept(foreign, tmp_path):
    (foreign / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    stock = AutoTokenizer.from_pretrained(saved(Tokenizer.load(foreign), tmp_path / "model"))
    assert stock.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi!"


def test_round_trip_is_the_share_of_documents_that_survive():
    tokenizer = Tokenizer(llama_style(), "llama", "<eos>")
    assert tokenizer.round_trip(["the cat", "é"]) == 1.0
    strip = tokenizers.normalizers.Strip()
    backend = llama_style()
    backend.normalizer = tokenizers.normalizers.Sequence([strip, backend.normalizer])
    assert Tokenizer(backend, "lossy", "<eos>").round_trip(["the cat", " the", "a ", "é"]) == 0.5


def test_padding_and_truncation_of_a_file_are_not_applied(tmp_path):
    backend = gemma_style()
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "short.json"))
    tokenizer = Tokenizer.load(tmp_path / "short.json")
    assert tokenizer.name == "short"
    assert len(tokenizer.encode("abcdef")) == 6


def test_the_end_token_is_looked_for_where_no_config_names_it(foreign):
    (foreign / "tokenizer_config.json").unlink()
    assert Tokenizer.load(foreign).end_token == "<eos>"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"model": 3}', "\x00"])
def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="not a tokenizer") as caught:
        Tokenizer.load(tmp_path)
    assert "gpt2, bytes, bpe:SIZE" in caught.value.hint


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="can't decode byte 0xff"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("path", ["absent", "absent/tokenizer.json"])
def test_a_missing_tokenizer_is_an_error(tmp_path, path):
    with pytest.raises(DataError, match="no such tokenizer"):
        Tokenizer.load(tmp_path / path)


def test_a_folder_without_a_tokenizer_is_not_answered_with_names_of_others(tmp_path):
    with pytest.raises(DataError, match=r"no tokenizer\.json in") as caught:
        Tokenizer.load(tmp_path)
    assert "copy it there" in caught.value.hint
    assert "gpt2" not in caught.value.hint


def test_no_end_token_is_an_error_that_says_how_to_name_one(foreign):
    (foreign / "tokenizer_config.json").write_text('{"eos_token": "<absent>"}')
    with pytest.raises(DataError, match="<absent>") as caught:
        Tokenizer.load(foreign)
    assert "eos_token" in caught.value.hint


def test_end_token_that_is_not_marked_special_is_text_all_the_same_where_it_stands_in_one(tmp_path):
    make_tokenizer("bytes", lambda: (), turn_tokens=False).save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["added_tokens"][0]["special"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a<|endoftext|>") == list(b"a<|endoftext|>")
    assert tokenizer.encode_documents(["<|endoftext|>", "b"]).tolist() == [*b"<|endoftext|>", 256, *b"b", 256]


def test_end_token_that_plain_text_makes_is_refused(tmp_path):
    make_tokenizer("bytes", lambda: (), turn_tokens=False).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "a"}')
    with pytest.raises(DataError, match='makes its control token "a" of plain text') as caught:
        Tokenizer.load(tmp_path)
    assert "eos_token" in caught.value.hint


def test_text_that_gives_the_end_of_a_document_is_refused(tmp_path):
    end = "<|endoftext|>"
    vocabulary = {letter: id_ for id_, letter in enumerate(("c", "a", "f", end, *sorted(set(end) - {"f"})))}
    model = tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token=end)
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_documents(["caf", "", "a"]).tolist() == [0, 1, 2, 3, 3, 1, 3]
    for encode in (tokenizer.encode_documents, tokenizer.documents_encoder):
        with pytest.raises(DataError, match=r'control token "<\|endoftext\|>" of plain text') as caught:
            encode(["caf", "café"])
        assert "eos_token" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000])
def test_a_damaged_tokenizer_config_is_an_error(foreign, content):
    (foreign / "tokenizer_config.json").write_text(content)
    with pytest.raises(DataError, match=r"tokenizer_config\.json") as caught:
        Tokenizer.load(foreign)
    assert "delete it" in caught.value.hint


def test_text_that_a_foreign_tokenizer_cannot_encode_is_an_error():
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "</s>": 1}, unk_token="<unk>"))
    with pytest.raises(DataError, match="cannot encode"):
        Tokenizer(backend, "words", "</s>").encode("b")


@pytest.mark.parametrize(
    ("spec", "suggestion"), [("gtp2", "gpt2"), ("byte", "bytes"), ("xyz", "gpt2, bytes, bpe:SIZE"), ("x" * 300, "gpt2")]
)
def test_an_unknown_name_is_wrong_usage(spec, suggestion):
    with pytest.raises(UsageError, match=f'unknown tokenizer "{spec}"') as caught:
        make_tokenizer(spec, list, turn_tokens=False)
    assert suggestion in caught.value.hint


def test_names_say_how_a_tokenizer_was_made(own):
    assert own.name in KINDS


def test_a_panic_of_the_library_is_an_error_of_ours(tmp_path, capfd):
    record = json.loads(make_tokenizer("bytes", list, turn_tokens=False)._text)
    pattern = {"Regex": "(a|a)*$"}  # 2^n ways to look at n letters: the library gives up, and panics
    record["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("aab")) == "aab"
    with pytest.raises(DataError, match="cannot encode this text"):
        tokenizer.encode("a" * 40 + "b")


@pytest.mark.parametrize("added_id", [3, 5000])
def test_an_added_token_under_another_id_than_the_library_gives_it_is_refused(tmp_path, added_id):
    record = json.loads(make_tokenizer("bytes", list, turn_tokens=False)._text)
    record["added_tokens"].append(dict(record["added_tokens"][0], id=added_id, content="<more>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match='its added token "<more>" an id that is not the next'):
        Tokenizer.load(tmp_path)
