"""Text ⇄ token ids: GPT-2's vocabulary, plain bytes, BPE trained on the source, or any ``tokenizer.json``."""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders

from gemmazero.data.hub_tokenizer import downloaded_tokenizer, is_here, is_on_hub
from gemmazero.data.shards import token_dtype
from gemmazero.data.tokenizer_file import read_special_tokens, read_tokenizer
from gemmazero.data.vocabulary import (
    END_OF_DOCUMENT,
    byte_vocabulary,
    encode_bytes,
    gpt2_vocabulary,
    made_of_text,
    mark_special,
    trained_vocabulary,
)
from gemmazero.errors import DataError, UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
TURN_TOKENS = ("<start_of_turn>", "<end_of_turn>")
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') }}
    {{- message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""  # Gemma 3's, for text alone and without <bos>: our documents do not begin with one

_END_TOKENS = ("<|endoftext|>", "<eos>", "</s>", "<|end_of_text|>")  # where no tokenizer_config.json names one
_CHOICES = "gpt2, bytes, bpe:SIZE (such as bpe:8192), a tokenizer.json or its folder, or a Hub id"


class Tokenizer:
    """One vocabulary: how text becomes ids, and ids text. All of it is one ``tokenizer.json``.

    The text of a special token is text like any other, for every ``encode`` here. Invalid Unicode raises DataError.

    Args:
        backend: what the ``tokenizers`` library made or read; it is owned from here on.
        name: what people call it.
        end_token: the token that ends every document.
        encode_fast: a faster equal of ``encode_documents``, where there is one.
        config: what a foreign ``tokenizer_config.json`` says of special tokens and chat, kept by ``save``.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        name: str,
        end_token: str,
        *,
        encode_fast: Callable[[Sequence[str]], NDArray[Any]] | None = None,
        config: dict[str, str] | None = None,
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # despite its name: special text is split like any text
        self._backend = backend
        self._encode_fast = encode_fast
        self._config = config or {}
        self.name = name
        self.end_token = end_token
        vocabulary = backend.get_vocab()
        self.end_id: int = vocabulary[end_token]
        self.vocab_size: int = max(vocabulary.values()) + 1
        """Every id, added tokens and gaps included: the largest id + 1."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The tokenizer in a ``tokenizer.json``, or in a folder that holds one, prompt template and all.

        Documents end with the ``eos_token`` of the ``tokenizer_config.json`` beside it or, where that names none, with
        the first known end token of the vocabulary. Raises DataError where there is no usable tokenizer.
        """
        file = path / "tokenizer.json" if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise DataError(f'no tokenizer.json in "{path}"', "copy it there from where the rest of the folder came")
        data, added = read_tokenizer(file)
        with _library(f'"{file}" is not a tokenizer.json'):
            backend = tokenizers.Tokenizer.from_buffer(data)
        if moved := [token for token, token_id in added.items() if backend.token_to_id(token) != token_id]:
            raise DataError(f'"{file}" gives its added token "{moved[0]}" an id that is not the next one', _CHOICES)
        config = read_special_tokens(file.parent)
        candidates = (config["eos_token"],) if "eos_token" in config else _END_TOKENS
        end_token = next((token for token in candidates if backend.token_to_id(token) is not None), None)
        if end_token is None:
            raise DataError(
                f'the tokenizer "{file}" has no end-of-document token (looked for {", ".join(candidates)})',
                'name one of its tokens as "eos_token" in the tokenizer_config.json beside it',
            )
        mark_special(backend, (end_token, *TURN_TOKENS), f'the tokenizer "{file}"')
        name = file.resolve().parent.name if file.name == "tokenizer.json" else file.stem
        return cls(backend, name, end_token, config=config)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``; stock ``AutoTokenizer`` then gives our ids.

        Equal tokenizers write equal bytes. The folder must exist. Raises OSError where it cannot be written.
        """
        config = {
            # Without it AutoTokenizer takes Gemma's own class for Gemma's model_type: other ids, silently.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "bos_token": self.end_token,
            "eos_token": self.end_token,
            "pad_token": self.end_token,
        }
        if self.turn_ids:
            config["chat_template"] = CHAT_TEMPLATE
        text = json.dumps(config | self._config, indent=2, ensure_ascii=False) + "\n"
        (folder / "tokenizer.json").write_bytes(self._text.encode())
        (folder / "tokenizer_config.json").write_bytes(text.encode())

    @property
    def turn_ids(self) -> tuple[int, int] | None:
        """The ids of <start_of_turn> and <end_of_turn>, where both exist."""
        start, end = (self._backend.token_to_id(token) for token in TURN_TOKENS)
        return None if start is None or end is None else (start, end)

    @property
    def control_ids(self) -> set[int]:
        """The ids of all special tokens, which no text becomes."""
        return {id_ for id_, token in self._backend.get_added_tokens_decoder().items() if token.special}

    @property
    def needed_embeddings(self) -> int:
        """The largest id that text, an end of document or a turn can give, + 1.

        Other special tokens may lie beyond it: Gemma 3's text models share a tokenizer with those that see images.
        """
        ordinary = set(self._backend.get_vocab().values()) - self.control_ids
        return max(ordinary | {self.end_id, *(self.turn_ids or ())}) + 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest little-endian type that holds every id: uint16 or uint32."""
        return token_dtype(self.vocab_size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ``tokenizer.json`` that ``save`` writes, in hexadecimal."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens spell bytes in ``BYTE_CHARACTERS``."""
        return isinstance(self._backend.decoder, decoders.ByteLevel)

    def token(self, token_id: int) -> str | None:
        """The vocabulary's own spelling of an id; None for an id that it does not have."""
        return self._backend.id_to_token(token_id)

    def encode(self, text: str) -> list[int]:
        """The ids of ``text`` and nothing else: no template, no special tokens."""
        return self._encode([text])[0]

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of ``text`` within the tokenizer's own prompt template, such as Gemma's leading <bos>.

        Equal to ``encode`` for every tokenizer that GemmaZero makes. Stock ``AutoTokenizer`` gives the same ids, save
        that it takes special tokens' text in a prompt for the tokens themselves (``split_special_tokens=False``).
        """
        return self._encode([text], template=True)[0]

    def encode_documents(self, texts: Sequence[str]) -> NDArray[Any]:
        """The ids of all documents in a flat array of ``dtype``, ``end_id`` after each and only there, or DataError."""
        if self._encode_fast:
            return self._encode_fast([_valid(text) for text in texts])
        documents = self._encode(texts)
        flat = np.full(sum(map(len, documents)) + len(documents), self.end_id, self.dtype)
        position = 0
        for ids in documents:
            flat[position : position + len(ids)] = ids
            position += len(ids) + 1
        if np.count_nonzero(flat == self.end_id) > len(documents):  # where it stands for what the vocabulary lacks
            raise made_of_text(self.end_token, f'the tokenizer "{self.name}"')
        return flat

    @property
    def documents_encoder(self) -> Callable[[Sequence[str]], NDArray[Any]]:
        """``encode_documents`` for valid Unicode, to be pickled: it brings no more along than it needs."""
        return self._encode_fast or self.encode_documents

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._backend.encode_special_tokens = True  # which is not pickled

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``: special tokens show as theirs, invalid UTF-8 as U+FFFD, unknown ids as nothing."""
        with _library(f'the tokenizer "{self.name}" cannot decode these ids'):
            return self._backend.decode(ids, skip_special_tokens=False)

    def round_trip(self, texts: Iterable[str]) -> float:
        """The share of ``texts``, 0 to 1, that come back from ids exactly as they were; 1 where there are none."""
        survived = [self.decode(self.encode(text)) == text for text in texts]
        return sum(survived) / len(survived) if survived else 1.0

    def without_prompt_template(self) -> "Tokenizer":
        """The same vocabulary, so that stock ``AutoTokenizer`` adds nothing to a prompt either."""
        content = json.loads(self._text) | {"post_processor": None}
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), self.name, self.end_token)

    def with_turn_tokens(self) -> "Tokenizer":
        """The same vocabulary and, after all else, those of <start_of_turn> and <end_of_turn> that it lacks."""
        backend = tokenizers.Tokenizer.from_str(self._text)
        missing = [token for token in TURN_TOKENS if backend.token_to_id(token) is None]
        backend.add_special_tokens(missing)
        vocabulary = backend.get_vocab()
        if any(vocabulary[token] < self.vocab_size for token in missing):
            raise DataError(f'the tokenizer "{self.name}" has gaps in its ids: no token can be added after the last')
        return Tokenizer(backend, self.name, self.end_token, encode_fast=self._encode_fast, config=self._config)

    @property
    def _text(self) -> str:
        return self._backend.to_str()

    def _encode(self, texts: Sequence[str], *, template: bool = False) -> list[list[int]]:
        texts = [_valid(text) for text in texts]
        with _library(f'the tokenizer "{self.name}" cannot encode this text'):
            return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=template)]


def make_tokenizer(spec: str, texts: Callable[[], Iterable[str]], *, turn_tokens: bool) -> Tokenizer:
    """The tokenizer that ``--tokenizer`` names: gpt2, bytes, bpe:SIZE, a ``tokenizer.json`` or its folder, a Hub id.

    Args:
        spec: the name. SIZE counts everything: 256 bytes, merges, special tokens.
        texts: opens the documents that bpe:SIZE is trained on; not called for any other.
        turn_tokens: add <start_of_turn> and <end_of_turn>, after all else, where absent.

    A tokenizer from a file or the Hub comes without its prompt template. Raises UsageError for an unknown name or a
    size out of range, DataError or HubError for a tokenizer that cannot be had.
    """
    kind, _, size = spec.partition(":")
    if spec == "gpt2":
        backend, encode_fast = gpt2_vocabulary()
        tokenizer = Tokenizer(backend, spec, END_OF_DOCUMENT, encode_fast=encode_fast)
    elif spec == "bytes":
        tokenizer = Tokenizer(byte_vocabulary(), spec, END_OF_DOCUMENT, encode_fast=encode_bytes)
    elif kind == "bpe":
        backend = trained_vocabulary(size, lambda: map(_valid, texts()), turn_tokens=turn_tokens)
        tokenizer = Tokenizer(backend, spec, END_OF_DOCUMENT)
    elif is_on_hub(spec):
        tokenizer = Tokenizer.load(downloaded_tokenizer(spec)).without_prompt_template()
        tokenizer.name = spec.partition("@")[0]
    elif Path(spec).name != spec or is_here(spec):
        tokenizer = Tokenizer.load(Path(spec)).without_prompt_template()
    else:
        close = difflib.get_close_matches(spec, ("gpt2", "bytes", "bpe:8192"), n=1)
        raise UsageError(f'unknown tokenizer "{spec}"', f"did you mean {close[0]}?" if close else _CHOICES)
    return tokenizer.with_turn_tokens() if turn_tokens else tokenizer


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text is not valid Unicode: an unpaired surrogate at character {error.start}",
            "leave that document out, or mend it where it was written",
        ) from None
    return text


@contextmanager
def _library(failure: str) -> Iterator[None]:
    """Whatever stops the ``tokenizers`` library is DataError; where it panics, Rust has told of that on stderr."""
    try:
        yield
    except Exception as error:  # it raises nothing more precise
        raise DataError(f"{failure}: {error}", _CHOICES) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{failure}: {error}", _CHOICES) from None
