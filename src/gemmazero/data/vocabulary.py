"""The vocabularies that GemmaZero makes itself, all byte-level: GPT-2's, the 256 bytes, and BPE trained on a source."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import tiktoken
import tokenizers
from numpy.typing import NDArray
from tiktoken.load import read_file_cached
from tokenizers import decoders, models, pre_tokenizers, trainers

from gemmazero.errors import DataError, UsageError

END_OF_DOCUMENT = "<|endoftext|>"

_PRINTABLE = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_OTHERS = sorted(set(range(256)) - set(_PRINTABLE))
BYTE_CHARACTERS = "".join(chr(byte if byte in _PRINTABLE else 256 + _OTHERS.index(byte)) for byte in range(256))
"""The character by which a byte-level vocabulary, GPT-2's or an heir's, spells each byte."""

_LARGEST_SIZE = 200_000
_JOINED = 64  # documents; more are no faster
_GPT2_FILES = tuple(  # as tiktoken names them, and caches them by the SHA-1 of that name
    f"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/{name}" for name in ("vocab.bpe", "encoder.json")
)


def gpt2_vocabulary() -> tuple[tokenizers.Tokenizer, Callable[[Sequence[str]], NDArray[Any]]]:
    """GPT-2's 50 257 tokens under tiktoken's ids, and ``encode_joined`` with tiktoken itself, which is faster.

    Raises DataError where tiktoken neither has its two files nor can get them.
    """
    try:
        encoding = tiktoken.get_encoding("gpt2")
        vocab_bpe = read_file_cached(_GPT2_FILES[0]).decode()
    except (OSError, ValueError) as error:  # no network, an HTTP error, an unwritable cache; a damaged download
        names = " and ".join(f"{hashlib.sha1(url.encode()).hexdigest()} ({url})" for url in _GPT2_FILES)
        raise DataError(
            f'the files of the tokenizer "gpt2" could not be had: {type(error).__name__}',
            "run this once with a network; or download two files under the names "
            f"{names} and set TIKTOKEN_CACHE_DIR to their folder; "
            "or choose --tokenizer bytes or --tokenizer bpe:8192, which need neither",
        ) from error
    return merged_vocabulary(encoding, vocab_bpe), partial(encode_joined, encoding, _gpt2_backend)


@cache
def _gpt2_backend() -> tokenizers.Tokenizer:
    return gpt2_vocabulary()[0]


def merged_vocabulary(encoding: tiktoken.Encoding, vocab_bpe: str) -> tokenizers.Tokenizer:
    """The same ids as those of a tiktoken encoding with GPT-2's split; ``vocab_bpe`` has a merge in each line but one.

    The merges are also implied by the ranks, but finding them there takes a second.
    """
    tokens = [encoding.decode_single_token_bytes(rank) for rank in range(encoding.eot_token)]
    lines = vocab_bpe.splitlines()[1:]
    return _byte_level(tokens, [(_bytes(left), _bytes(right)) for left, right in map(str.split, lines)])


def byte_vocabulary() -> tokenizers.Tokenizer:
    """The 256 bytes, each under its own value, and the end of a document as 256."""
    return _byte_level([bytes([byte]) for byte in range(256)], [])


def encode_joined(
    encoding: tiktoken.Encoding, backend: Callable[[], tokenizers.Tokenizer], texts: Sequence[str]
) -> NDArray[Any]:
    """The ids of all documents in a flat uint16 array, each with the end of a document after it, as of each alone.

    They are encoded together, with that token between them: half again as fast as one by one. Where a document holds
    its text, which stays text, each of them is encoded by itself; and by ``backend``, which gives the same ids, where
    tiktoken gives up: a million blanks in a row are too many for it.
    """
    arrays: list[Any] = []
    for start in range(0, len(texts), _JOINED):
        some = texts[start : start + _JOINED]
        try:
            arrays += _encoded(encoding, some)
        except ValueError:
            slower = backend()
            slower.encode_special_tokens = True  # despite its name: special text is split like any text
            for text in some:
                arrays += [slower.encode_batch_fast([text], add_special_tokens=False)[0].ids, [encoding.eot_token]]
    return np.concatenate([np.empty(0, "<u2"), *arrays], dtype="<u2", casting="unsafe")


def _encoded(encoding: tiktoken.Encoding, texts: Sequence[str]) -> list[Any]:
    joined, end = END_OF_DOCUMENT.join([*texts, ""]), [encoding.eot_token]
    if joined.count(END_OF_DOCUMENT) == len(texts):
        return [encoding.encode_to_numpy(joined, allowed_special={END_OF_DOCUMENT})]
    return [part for text in texts for part in (encoding.encode_to_numpy(text, disallowed_special=()), end)]


def encode_bytes(texts: Sequence[str]) -> NDArray[Any]:
    """The same with ``byte_vocabulary``."""
    arrays = [part for text in texts for part in (np.frombuffer(text.encode(), np.uint8), [256])]
    return np.concatenate([np.empty(0, "<u2"), *arrays], dtype="<u2", casting="unsafe")


def trained_vocabulary(size: str, documents: Callable[[], Iterable[str]], *, turn_tokens: bool) -> tokenizers.Tokenizer:
    """BPE of ``size`` tokens in all: 256 bytes, merges learned from the documents, special tokens last.

    Text is split as GPT-2 splits it; equal documents give equal vocabularies. Room is left for the turn tokens where
    they are to be added. Raises UsageError for a size out of range, DataError where the documents have too few pairs
    of bytes (seen twice at least) for so many merges.
    """
    special = check_size(size, turn_tokens=turn_tokens) - 256
    trainer = trainers.BpeTrainer(
        vocab_size=int(size) - special,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner = tokenizers.Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    learner.train_from_iterator(documents(), trainer)
    learned = learner.get_vocab_size() + special
    if learned < int(size):
        raise DataError(
            f'the text is too small for the tokenizer "bpe:{size}": it gives {learned} tokens',
            f"choose --tokenizer bpe:{learned} or a smaller one, or --tokenizer bytes",
        )
    merges = [(_bytes(left), _bytes(right)) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [bytes([byte]) for byte in range(256)] + [left + right for left, right in merges]
    return _byte_level(tokens, merges)


def check_size(size: str, *, turn_tokens: bool) -> int:
    """The smallest size that ``trained_vocabulary`` takes. Raises UsageError where it does not take ``size``."""
    smallest = 259 if turn_tokens else 257
    digits = size.isascii() and size.isdigit() and len(size) <= len(str(_LARGEST_SIZE))
    if not (digits and smallest <= int(size) <= _LARGEST_SIZE):
        raise UsageError(
            f'the size in tokenizer "bpe:{size}" must be a whole number from {smallest} to {_LARGEST_SIZE}',
            "for example --tokenizer bpe:8192",
        )
    return smallest


def mark_special(backend: tokenizers.Tokenizer, tokens: Iterable[str], what: str) -> None:
    """Make those of ``tokens`` special that are known; not all who make a tokenizer say what is. They keep their ids.

    Raises DataError where plain text makes one of them all the same.
    """
    known = [token for token in tokens if backend.token_to_id(token) is not None]
    backend.add_special_tokens(known)
    backend.encode_special_tokens = True
    for token in known:
        if backend.token_to_id(token) in backend.encode(token, add_special_tokens=False).ids:
            raise made_of_text(token, what)


def made_of_text(token: str, what: str) -> DataError:
    """The error for a tokenizer, ``what``, that makes a special token of text."""
    return DataError(
        f'{what} makes its control token "{token}" of plain text, too',
        'name another of its tokens as "eos_token" in the tokenizer_config.json beside it',
    )


def _byte_level(tokens: list[bytes], merges: list[tuple[bytes, bytes]]) -> tokenizers.Tokenizer:
    """A byte-level BPE with GPT-2's split, each token under its place in the list, the end of a document last."""
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={_spelled(token): token_id for token_id, token in enumerate(tokens)},
            merges=[(_spelled(left), _spelled(right)) for left, right in merges],
        )
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_DOCUMENT])
    return backend


def _spelled(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def _bytes(spelling: str) -> bytes:
    return bytes(map(BYTE_CHARACTERS.index, spelling))
