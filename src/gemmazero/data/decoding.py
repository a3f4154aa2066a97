"""Ids one at a time → text as soon as it is certain, never half a character."""

import codecs
import re

from gemmazero.data.tokenizer import Tokenizer
from gemmazero.data.vocabulary import BYTE_CHARACTERS


class StreamDecoder:
    """Decodes a stream of ids; the pieces joined are ``tokenizer.decode`` of all the ids, whatever the ids.

    A piece is empty while a character is incomplete. The cost of an id does not grow with the length of the stream.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decoder = _ByteLevelDecoder(tokenizer) if tokenizer.is_byte_level else _WindowDecoder(tokenizer)

    def push(self, token_id: int) -> str:
        """The text that this id makes certain."""
        return self._decoder.push(token_id)

    def flush(self) -> str:
        """What is still held back; the stream ends, and the next id begins another."""
        return self._decoder.flush()


class _ByteLevelDecoder:
    """For vocabularies whose tokens are bytes: an incremental UTF-8 decoder does it all."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        token = self._tokenizer.token(token_id) or ""
        if _BYTES.keys() >= set(token):
            return self._utf8.decode(bytes(_BYTES[character] for character in token))
        return self._utf8.decode(token.encode())  # an added token, spelled as it reads

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowDecoder:
    """For every other vocabulary: decodes the newest ids together with those before them.

    The first token of a text decodes differently (SentencePiece drops its leading space), so the ids shown last stay
    in the window as context. A run of byte-fallback tokens is held to its end: one wrong byte changes all of it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._context = 0  # of the window's ids, those that are context
        self._shown = 0  # characters of the window's text that were given out

    def push(self, token_id: int) -> str:
        token = self._tokenizer.token(token_id)
        if token is None:
            return ""
        self._window.append(token_id)
        if _BYTE_FALLBACK.fullmatch(token):
            return ""
        text = self._tokenizer.decode(self._window)
        if text.endswith("\ufffd") and not token.endswith("\ufffd"):
            return ""
        piece = text[self._shown :]
        newest = self._window[self._context :]
        alone = self._tokenizer.decode(newest)
        if alone:  # what is stripped from a first token is stripped from these, whatever follows
            self._window, self._context, self._shown = newest, len(newest), len(alone)
        else:
            self._shown = len(text)
        return piece

    def flush(self) -> str:
        piece = self._tokenizer.decode(self._window)[self._shown :]
        self._window, self._context, self._shown = [], 0, 0
        return piece


_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
_BYTE_FALLBACK = re.compile("<0x[0-9A-Fa-f]{2}>")
