"""Loss, perplexity, bits per byte and next-token accuracy on held-out tokens."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gemmazero.data.batch import Batch
from gemmazero.data.shards import TokenShards
from gemmazero.errors import CheckpointError, DataError
from gemmazero.model.gemma import Gemma

TOKENS_AT_ONCE = 4096
_BYTES_AT_ONCE, _BYTES_ON_GPU = 2**25, 2**28
"""Of float32 logits: less than training has, so that validating takes no more memory."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model makes of held-out text. ``loss`` is in nats a token; ``tokens`` counts predictions."""

    loss: float
    perplexity: float
    bits_per_byte: float
    accuracy: float
    tokens: int
    split: str


def evaluate(
    model: Gemma,
    shards: TokenShards,
    *,
    sequence_length: int,
    windows: Sequence[int] | None = None,
    mask_documents: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Evaluation:
    """The last of ``evaluating``'s results: over every window, or over those in ``windows``."""
    results = evaluating(
        model, shards, sequence_length=sequence_length, windows=windows, mask_documents=mask_documents,
        autocast=autocast,
    )  # fmt: skip
    return deque(results, maxlen=1).pop()


def evaluating(
    model: Gemma,
    shards: TokenShards,
    *,
    sequence_length: int,
    windows: Sequence[int] | None = None,
    mask_documents: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Generator[Evaluation, None, None]:
    """The result so far, after each batch of windows.

    Window ``i`` predicts tokens ``i·T + 1 … (i+1)·T`` from those before them within it: disjoint windows of
    ``sequence_length`` T, the last partial one included, so every token but the split's first is predicted once.
    With ``mask_documents`` those of a token's own document alone are looked at.
    Bits per byte = nats a token · predictions in the split / ln 2 / the split's bytes of text.

    Raises:
        DataError: the split holds fewer than two tokens, or one that the model does not have.
        CheckpointError: the model gives what is no number.
    """
    predictions = len(shards) - 1
    if predictions < 1:
        raise DataError(f'the split "{shards.split}" holds no text to evaluate', "prepare with --validation-fraction")
    if windows is None:
        windows = range(window_count(shards, sequence_length))
    device = model.device
    nats, correct, tokens = 0.0, 0, 0
    was_training = model.training
    model.eval()
    try:
        for some in _alike(windows, predictions // sequence_length, max(1, TOKENS_AT_ONCE // sequence_length)):
            ids = torch.stack([_window(shards, index, sequence_length) for index in some])
            if (largest := int(ids.max())) >= model.config.vocab_size:
                raise DataError(
                    f'"{shards.folder}" holds token {largest}, the model has {model.config.vocab_size}',
                    "prepare the text with the model's tokenizer: --tokenizer MODEL_FOLDER",
                )
            ids = ids.to(device)
            with torch.inference_mode(), autocast():
                batch_nats, batch_correct = score(model, ids, shards.manifest.end_id if mask_documents else None)
            nats, correct, tokens = nats + batch_nats, correct + batch_correct, tokens + ids[:, 1:].numel()
            loss = nats / tokens
            if not math.isfinite(loss):
                raise CheckpointError(
                    f"the model's loss is {loss} after {tokens} tokens", "an earlier checkpoint may still be sound"
                )
            yield Evaluation(
                loss=loss,
                perplexity=math.exp(min(loss, 700.0)),
                bits_per_byte=loss * predictions / math.log(2) / shards.text_bytes,
                accuracy=correct / tokens,
                tokens=tokens,
                split=shards.split,
            )
    finally:
        model.train(was_training)


def window_count(shards: TokenShards, sequence_length: int) -> int:
    """Disjoint windows in a split, the last partial one included."""
    return -(-(len(shards) - 1) // sequence_length)


def _alike(windows: Sequence[int], whole: int, size: int) -> Iterator[list[int]]:
    """The windows in batches of ``size``; the partial one, whose index is ``whole``, alone."""
    full = [index for index in windows if index < whole]
    for start in range(0, len(full), size):
        yield full[start : start + size]
    yield from ([index] for index in windows if index >= whole)


def _window(shards: TokenShards, index: int, sequence_length: int) -> Tensor:
    start = index * sequence_length
    tokens = shards.read(start, min(start + sequence_length + 1, len(shards)))
    return torch.from_numpy(tokens.astype("int64"))


def score(model: Gemma, ids: Tensor, end_id: int | None) -> tuple[float, int]:
    """Summed nats and right guesses for every token but the first of each row, a chunk of logits at a time."""
    batch = Batch.of(ids[:, :-1], ids[:, 1:], end_id)
    hidden, targets = model.hidden(batch.ids, documents=batch.documents).flatten(0, 1), batch.targets.flatten()
    rows = max(1, (_BYTES_ON_GPU if ids.is_cuda else _BYTES_AT_ONCE) // (4 * model.config.vocab_size))
    nats, correct = [], []
    for start in range(0, len(targets), rows):
        logits, wanted = model.logits(hidden[start : start + rows]), targets[start : start + rows]
        nats.append(F.cross_entropy(logits, wanted, reduction="sum"))
        correct.append((logits.argmax(dim=-1) == wanted).sum())
    return sum(torch.stack(nats).tolist()), sum(torch.stack(correct).tolist())  # a GPU is waited for at the end alone
