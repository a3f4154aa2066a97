"""Which token comes next: logits → ids. Loads no torch, so that a command line can show the defaults at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemmazero.setting import check_settings, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_HEADS = (64, 1024, 16384)  # so many of the likeliest mostly reach top_p; to sort a large vocabulary takes long
_COLDEST = 1e-30  # below it a temperature may be 0 in float32, and nothing but the likeliest is drawn long before


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the next token is drawn: repetition penalty, temperature, top-k, top-p, min-p, as transformers defines them.

    Raises UsageError for a value out of range.
    """

    temperature: float = setting(
        0.8, "Below 1 plays safe, above 1 takes risks; 0 is greedy: always the likeliest token.", panel="Sampling",
        minimum=0.0,
    )  # fmt: skip
    top_k: int = setting(0, "Draw from so many of the likeliest tokens; 0 draws from all.", panel="Sampling", minimum=0)
    top_p: float = setting(
        0.95, "Draw from the likeliest tokens that together reach this probability; 1 draws from all.",
        panel="Sampling", minimum=0.0, maximum=1,
    )  # fmt: skip
    min_p: float = setting(
        0.0, "Leave out tokens below this share of the likeliest one's probability; 0 leaves out none.",
        panel="Sampling", minimum=0.0, maximum=1,
    )  # fmt: skip
    repetition_penalty: float = setting(
        1.0, "Above 1 makes tokens that were there before less likely; 1 does not.", panel="Sampling",
        minimum=0.001, maximum=1000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)

    def __call__(
        self, logits: "Tensor", seen: Sequence[Sequence[int]], generators: "Sequence[torch.Generator]"
    ) -> "Tensor":
        """Draw one id a row.

        Args:
            logits: float32 (B, V).
            seen: for each row the ids before it, which ``repetition_penalty`` makes less likely.
            generators: for each row its own, on the CPU: what a row draws does not depend on its neighbours.

        Returns:
            int64 (B), on the CPU; -1 for a row that holds NaN, or whose largest number is not finite.
        """
        import torch

        logits, ids = self.candidates(logits, seen)
        if self.temperature == 0:
            largest, places = logits.max(dim=-1)
            return places.where(largest.isfinite(), -1).cpu()
        chances = [torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators]
        # Each token owns a stretch of [0, 1) as long as its probability, which in sum may be a little less than 1.
        ends = logits.softmax(dim=-1).cpu().double().cumsum(dim=-1)
        whole = ends[:, -1:]  # NaN where there is no largest number to compare with
        places = torch.searchsorted(ends, torch.stack(chances) * whole, right=True).clamp(max=logits.shape[-1] - 1)
        drawn = places if ids is None else ids.gather(-1, places.to(ids.device)).cpu()
        return drawn.where(whole.isfinite(), -1)[:, 0]

    def candidates(self, logits: "Tensor", seen: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor | None]":
        """The tokens to draw from.

        Args:
            logits: float32 (B, V).
            seen: as in a call.

        Returns:
            their logits, penalty and temperature applied, (B, N), -inf for those ruled out; and their ids (B, N), or
            None where N is V. They rise.
        """
        if self.repetition_penalty != 1:
            logits = _penalized(logits, seen, self.repetition_penalty)
        if self.temperature == 0:
            return logits, None
        # A difference of logits is all that counts; from the largest down, no division overflows upwards.
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(self.temperature, _COLDEST)
        ids = None
        if 0 < self.top_k < logits.shape[-1]:
            last = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < last, -float("inf"))
        if self.top_p < 1:
            logits, ids = _nucleus(logits, self.top_p)
        if self.min_p > 0:
            probabilities = logits.softmax(dim=-1)
            least = self.min_p * probabilities.amax(dim=-1, keepdim=True)
            logits = logits.masked_fill(probabilities < least, -float("inf"))
        return logits, ids


def row_generator(seed: int, row: int) -> "torch.Generator":
    """The source of randomness of one row: equal for equal (seed, row), unrelated to every other."""
    import hashlib

    import torch

    digest = hashlib.blake2b(f"{seed} {row}".encode(), digest_size=4).digest()  # the CPU generator takes 32 bits
    return torch.Generator().manual_seed(int.from_bytes(digest))


def _penalized(logits: "Tensor", seen: Sequence[Sequence[int]], penalty: float) -> "Tensor":
    """Of the ids seen, positive logits divided by the penalty, negative ones multiplied by it (arXiv 1909.05858)."""
    logits = logits.clone()
    for row, ids in zip(logits, seen, strict=True):
        once = sorted(set(ids))
        scores = row[once]
        row[once] = (scores * penalty).where(scores < 0, scores / penalty)
    return logits


def _nucleus(logits: "Tensor", top_p: float) -> "tuple[Tensor, Tensor]":
    """Top-p sampling (arXiv 1904.09751): the fewest likeliest tokens that together reach ``top_p``, at least one.

    Of equal ones at the end those with the lower ids, so that neighbours in the batch do not tell in a draw.
    (B, V) → (B, N), others at -inf, and their ids, which rise.
    """
    probabilities = logits.softmax(dim=-1)
    for size in (*_HEADS, logits.shape[-1]):
        likeliest, ids = probabilities.topk(min(size, logits.shape[-1]))
        count = (likeliest.cumsum(dim=-1) - likeliest < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
        last = likeliest.gather(-1, count - 1)
        if (likeliest[:, -1:] < last).all():  # all that equal the last one are here, too
            break
    ids = ids.sort(dim=-1).values
    chances = probabilities.gather(-1, ids)
    likelier, equal = chances > last, chances == last
    kept = likelier | (equal & (equal.cumsum(dim=-1) <= count - likelier.sum(dim=-1, keepdim=True)))
    return logits.gather(-1, ids).masked_fill(~kept, -float("inf")), ids
