"""Weights in 8 bits: every matrix as whole numbers and a scale a row.

    s[n] = max_k |W[n, k]| / 127, rounded up to bfloat16        Q[n, k] = round(W[n, k] / s[n])

so that |W - s · Q| ≤ s / 2, and the largest weight of a row is met to within that. Nothing else is narrowed but the
vectors that a matrix is multiplied with: to bfloat16, which is what torch's kernel reads, or by ``native_step`` to
whole numbers of 16 bits.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmazero.errors import UsageError
from gemmazero.model.gemma import Gemma

_FEW_ROWS = 16  # up to so many the kernel is quicker than a float matrix made for the occasion
_KERNEL_STEP = 32  # it reads so many weights at a time, beyond the end of a row that is no multiple of it


class Int8Linear(nn.Module):
    """(…, K) → (…, N) in the dtype of what comes in: x · (s · Q)ᵀ.

    Args:
        whole: int8 (N, K), contiguous.
        scale: bfloat16 (N).
    """

    whole: Tensor
    scale: Tensor

    def __init__(self, whole: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("whole", whole)
        self.register_buffer("scale", scale)
        self.out_features = len(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Few rows, as in decoding, read the weights as they are; many share a float copy that is thrown away."""
        width = x.shape[-1]
        if x.numel() // width <= _FEW_ROWS and width % _KERNEL_STEP == 0:
            rows = x.reshape(-1, width).to(torch.bfloat16)
            product: Tensor = torch._weight_int8pack_mm(rows, self.whole, self.scale)
            return product.to(x.dtype).view(*x.shape[:-1], -1)
        return F.linear(x, self.whole.to(x.dtype)) * self.scale.to(x.dtype)


class Int8Embedding(nn.Module):
    """int64 (…) → float32 (…, K): the rows s · Q of those ids."""

    def __init__(self, rows: Int8Linear) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, ids: Tensor) -> Tensor:
        """A row of 8 bits and its scale, multiplied out."""
        return self.rows.whole[ids].float() * self.rows.scale[ids].float()[..., None]


def quantize(weight: Tensor) -> Int8Linear:
    """(N, K) → the same matrix in 8 bits, to within half a step of each row's scale; a row of zeros stays so."""
    wide = weight.detach().float()
    scale = (wide.abs().amax(dim=-1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    rounded = scale.bfloat16()
    rounded = torch.where(rounded.float() < scale, torch.nextafter(rounded, rounded.new_tensor(torch.inf)), rounded)
    return Int8Linear((wide / rounded.float()[:, None]).round().to(torch.int8), rounded)


@torch.no_grad()
def quantize_model(model: Gemma) -> Gemma:
    """Put ``model``'s matrices and embedding into 8 bits, in place, for decoding; norms are left as they are.

    A tied head and the embedding stay one matrix.

    Raises:
        UsageError: it is not on a CPU. Elsewhere torch has no 8-bit products, or slow ones.
    """
    if model.device.type != "cpu":
        raise UsageError(
            f'no quick 8-bit products on "{model.device.type}"', "--dtype int8 with --device cpu, or --dtype bf16"
        )
    for block in model.model.layers:
        for part in block.children():
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    part.register_module(name, quantize(layer.weight))
    rows = quantize(model.model.embed_tokens.weight)
    model.model.register_module("embed_tokens", Int8Embedding(rows))
    head = rows if model.config.tie_word_embeddings else quantize(model.lm_head.weight)
    model.register_module("lm_head", head)
    model.config = dataclasses.replace(model.config, tie_word_embeddings=False)  # the head is a layer like any other
    return model
