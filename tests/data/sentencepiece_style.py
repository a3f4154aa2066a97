"""Small foreign tokenizers, spelled like SentencePiece's: ▁ for a space, byte tokens for what the vocabulary lacks."""

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
TOKENS = [
    *SPECIAL,
    *(f"<0x{byte:02X}>" for byte in range(256)),
    "▁",
    *"abcdefghijklmnopqrstuvwxyz",
    *("▁a", "th", "the", "▁the", "\ufffd"),
]


def gemma_style() -> tokenizers.Tokenizer:
    """As Gemma's: every space is a ▁, nothing is stripped, a prompt begins with <bos>."""
    backend = _byte_fallback_bpe()
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", SPECIAL.index("<bos>"))]
    )
    return backend


def llama_style() -> tokenizers.Tokenizer:
    """As Llama 2's: a ▁ is put before the text, and the decoder strips the text's first space."""
    backend = _byte_fallback_bpe()
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def metaspace() -> tokenizers.Tokenizer:
    """As T5's: the first token loses its leading space."""
    backend = _byte_fallback_bpe()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def _byte_fallback_bpe() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocab={token: token_id for token_id, token in enumerate(TOKENS)},
            merges=[("▁", "a"), ("t", "h"), ("th", "e"), ("▁", "the")],
            byte_fallback=True,
            unk_token="<unk>",
            fuse_unk=True,
        )
    )
    backend.add_special_tokens(SPECIAL)
    return backend
