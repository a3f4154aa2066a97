"""The files of a tokenizer that somebody else made, looked through before the library reads them.

The ``tokenizers`` library trusts what it is given: a few lines of a ``tokenizer.json`` can make it take all memory,
which ends the process, or make a text a million times longer. What no tokenizer in use comes near is refused here.
"""

import base64
import binascii
from itertools import pairwise
from pathlib import Path
from typing import Any

from gemmazero.errors import ConfigError, DataError
from gemmazero.json_file import parse_json, read_json
from gemmazero.regular_file import read_bytes

MOST_IDS = 2**24
LARGEST_FILE = 48 * 2**20  # bytes; Gemma 3's has 33 million
_MOST_COMMAS, _MOST_BRACKETS = 3 * 2**19, 2**20  # Gemma 3's: 1.3 and 0.5 million
_MOST_TOKENS = 2**20  # and merges: Gemma 3 has 0.8 million of both
_MOST_ADDED_TOKENS = 2**17
_MOST_TREE_NODES = 2**20  # of a Unigram vocabulary, at some 300 bytes each
_MOST_PARTS, _LONGEST_TEXT = 2**13, 2**12  # of all that stands around the vocabulary
_LARGEST_GROWTH = 1000  # characters, or ids, that one may become
_LARGEST_TEXT_FILE = 2**20  # bytes of a chat template

_ENCODING, _DECODING = ("normalizer", "pre_tokenizer", "post_processor"), ("decoder",)
_GROWTH = {"ByteLevel": 4, "Metaspace": 2, "NFD": 4, "NFKD": 18, "NFKC": 18}  # of a character
_SETTINGS = (str, int, float, bool, type(None))
_ANOTHER = "gpt2, bytes, bpe:SIZE (such as bpe:8192), a tokenizer.json or its folder, or a Hub id"
_AGAIN = "check its rights, or copy it again from where it came from"


def read_tokenizer(file: Path) -> tuple[bytes, dict[str, int]]:
    """The ``tokenizer.json`` in ``file``, fit for the library, and the ids that it says its added tokens have.

    Raises DataError where there is none.
    """
    data = _bytes(file, LARGEST_FILE)
    try:
        return data, _checked(data)
    except ValueError as error:
        raise DataError(f'"{file}" is not a tokenizer.json: {error}', _ANOTHER) from None


def read_special_tokens(folder: Path) -> dict[str, str]:
    """What the ``tokenizer_config.json`` of ``folder``, if any, says of special tokens and chat. Raises DataError.

    A chat template is a text to hand on, which nothing here runs; everything else in the file is passed over.
    """
    file, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    try:
        config = read_json(file) if file.exists() else {}
    except ConfigError as error:
        raise DataError(error.message, "delete it, or copy it again from where it came from") from error
    if template.exists():
        try:
            config["chat_template"] = _bytes(template, _LARGEST_TEXT_FILE).decode()
        except UnicodeDecodeError as error:
            raise DataError(f'cannot read "{template}": {error}', _AGAIN) from None
    values = {key: config.get(key) for key in ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in values.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _bytes(file: Path, limit_bytes: int) -> bytes:
    try:
        return read_bytes(file, limit_bytes)
    except FileNotFoundError:
        raise DataError(f'no such tokenizer: "{file}"', _ANOTHER) from None
    except OSError as error:
        raise DataError(f'cannot read the tokenizer "{file}": {error.strerror or error}', _AGAIN) from error


def _checked(data: bytes) -> dict[str, int]:
    """The added tokens of a ``tokenizer.json``. Raises ValueError for what the library must not be given."""
    _require(data.count(b",") <= _MOST_COMMAS, "it holds too much")
    _require(data.count(b"[") + data.count(b"{") <= _MOST_BRACKETS, "it holds too much")
    record = parse_json(data)
    _require(isinstance(record, dict), "it does not hold a JSON object")
    added = record.get("added_tokens", [])
    _check_added_tokens(added)
    _check_model(record.get("model"))
    for steps in (_ENCODING, _DECODING):
        _check_steps([record.get(step) for step in steps])
    return {token["content"]: token["id"] for token in added}


def _check_added_tokens(tokens: Any) -> None:
    _require(isinstance(tokens, list) and len(tokens) <= _MOST_ADDED_TOKENS, "its added_tokens are not a short list")
    for token in tokens:
        sound = isinstance(token, dict) and all(isinstance(value, _SETTINGS) for value in token.values())
        _require(sound and _is_id(token.get("id")), "an added token has no id that a model could embed")
        _require(_is_text(token.get("content")), "an added token has no content")


def _check_model(model: Any) -> None:
    """Raises ValueError where the vocabulary is not one of ids, or of scores, or its merges are not of two texts."""
    _require(isinstance(model, dict), "it has no model")
    vocabulary, merges = model.get("vocab"), model.get("merges", [])
    _require(isinstance(merges, list) and all(map(_is_merge, merges)), "its merges are not of two texts each")
    if isinstance(vocabulary, dict):
        _require(all(map(_is_id, vocabulary.values())), "its vocab gives a token no id that a model could embed")
        _require(len(set(vocabulary.values())) == len(vocabulary), "its vocab gives two tokens one id")
    else:
        _require(isinstance(vocabulary, list) and all(map(_is_scored, vocabulary)), "its vocab is none")
        _require(_tree_nodes([token for token, _ in vocabulary]) <= _MOST_TREE_NODES, "its vocab is too large")
    _require(len(vocabulary) + len(merges) <= _MOST_TOKENS, "its vocab and merges are too many")
    settings = [value for key, value in model.items() if key not in ("vocab", "merges")]
    _require(all(isinstance(value, _SETTINGS) for value in settings), "its model has settings that are lists")
    _require(not model.get("continuing_subword_prefix") or not merges, "its merges have a prefix, which is not read")
    _check_steps(settings)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_IDS


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _is_merge(merge: Any) -> bool:
    return isinstance(merge, str) or (isinstance(merge, list) and len(merge) == 2 and all(map(_is_word, merge)))


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_scored(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int | float)


def _tree_nodes(tokens: list[str]) -> int:
    """How many different beginnings, in bytes, the tokens have: the library keeps a tree of them."""
    words = sorted(token.encode() for token in tokens)
    return sum(len(word) - _shared_bytes(before, word) for before, word in pairwise([b"", *words]))


def _shared_bytes(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _check_steps(steps: Any) -> None:
    """Raises ValueError for what makes a text much longer, or has numbers and texts as no tokenizer has them."""
    growth, parts, waiting = 1, 0, [steps]
    while waiting:
        part, parts = waiting.pop(), parts + 1
        if isinstance(part, dict):
            growth *= _growth(part)
            waiting += [value for key, value in part.items() if key != "precompiled_charsmap"]
        elif isinstance(part, list):
            waiting += part
        _require(not isinstance(part, str) or _is_text(part), "it holds a text that is too long")
        _require(not isinstance(part, int) or 0 <= part < MOST_IDS, f'it holds the number "{part}"')
        _require(parts + len(waiting) <= _MOST_PARTS, "it has too many parts around its vocabulary")
        _require(growth <= _LARGEST_GROWTH, f"it makes a text more than {_LARGEST_GROWTH} times longer")


def _growth(step: dict[str, Any]) -> int:
    """By how much a step of a pipeline can make what it is given longer, at most."""
    _require(step.get("length") != 0, "it splits a text into pieces of no length")
    _require(step.get("stop") in (None, 0, 1), "it strips more than a character from the end of a token")
    if "precompiled_charsmap" in step:
        return _longest_replacement(step["precompiled_charsmap"])
    if "single" in step:
        return _template_length(step)
    if isinstance(added := step.get("content", step.get("prepend")), str):
        pattern = step.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        if isinstance(replaced, str) and replaced:
            return max(1, -(-len(added) // len(replaced)))
        return 1 + len(added)  # it may stand between every two characters
    return _GROWTH.get(str(step.get("type")), 1)


def _template_length(template: dict[str, Any]) -> int:
    """How many pieces a prompt template has; each of them is the text or a special token that the template defines."""
    pieces, defined = template["single"], template.get("special_tokens")
    if not isinstance(pieces, list) or not isinstance(defined, dict):
        raise ValueError("its prompt template is not of pieces")
    specials = [piece.get("SpecialToken") for piece in pieces if isinstance(piece, dict)]
    for special in specials:
        _require(not isinstance(special, dict) or special.get("id") in defined, "its prompt template lacks a token")
    return len(pieces)


def _longest_replacement(charsmap: Any) -> int:
    """The longest text in SentencePiece's table of characters and what replaces them: a trie's size, it, the texts."""
    try:
        table = base64.b64decode(charsmap, validate=True) if isinstance(charsmap, str) else b""
    except (binascii.Error, ValueError):
        table = b""
    size = int.from_bytes(table[:4], "little")
    _require(1024 <= size <= len(table) - 4 and size % 4 == 0, "its precompiled_charsmap is none")
    return max(map(len, table[4 + size :].split(b"\0")), default=0)


def _require(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(what)
