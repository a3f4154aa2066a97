"""One token through the model: the mathematics of ``Gemma``, in as few operations as it takes.

This is for a CPU where ``NativeStep`` cannot be, for want of a C++ compiler. A matrix product takes microseconds, and
calling it nearly as many. So what is multiplied with the same vector is one matrix here, norms know their factor
beforehand, and there is no mask: a token sees all that the cache gives it. Everything between the matrix products is
float32. One thread computes all but the large products: to wake another, which sleeps in between (``wait_politely``),
takes as long as a small product.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemmazero.model.attention import Attention
from gemmazero.model.cache import Cache, LayerCache
from gemmazero.model.gemma import Block, Gemma
from gemmazero.model.norm import RMSNorm
from gemmazero.model.quantized import Int8Linear
from gemmazero.model.rope import Rotation
from gemmazero.runtime import using_threads

_WORTH_WAKING = 600_000  # weights of a matrix, whose product then takes some 0.2 ms


class OneToken:
    """Reads single tokens, on the CPU, for one row without padding.

    The model's own matrices become views of those here: nothing is held twice, and the model computes what it did, but
    for rounding. Its weights must not change afterwards. Large products get the threads that torch has now.
    """

    def __init__(self, model: Gemma) -> None:
        self._model = model
        self._blocks = [_Block(block) for block in model.model.layers if isinstance(block, Block)]
        self._norm = _Norm(model.model.norm)
        head = model.model.embed_tokens if model.config.tie_word_embeddings else model.lm_head
        if not isinstance(head, Int8Linear):
            _lay_out(head)

    def __call__(self, ids: Tensor, cache: Cache) -> Tensor:
        """int64 (1, 1), the token after those in the cache → float32 (1, V): what comes after it."""
        decoder = self._model.model
        position = torch.tensor([cache.length])
        rotations = {kind: decoder.rotation(kind, position, torch.float32) for kind in set(decoder.config.layer_types)}
        x = decoder.embed(ids)[0].float()
        with using_threads(1):
            for block, kind, layer in zip(self._blocks, decoder.config.layer_types, cache.layers, strict=True):
                x = block(x, rotations[kind], layer)
        cache.length += 1
        return self._model.logits(self._norm(x).to(decoder.norm.weight.dtype))


class _Block:
    """(1, D) → (1, D)."""

    def __init__(self, block: Block) -> None:
        self._before_attention = _Norm(block.input_layernorm)
        self._attention = _Attention(block.self_attn)
        self._after_attention = _Norm(block.post_attention_layernorm)
        self._before_mlp = _Norm(block.pre_feedforward_layernorm)
        self._gate_and_up = _Product(block.mlp.gate_proj, block.mlp.up_proj)
        self._down = _Product(block.mlp.down_proj)
        self._after_mlp = _Norm(block.post_feedforward_layernorm)

    def __call__(self, x: Tensor, rotation: Rotation, cache: LayerCache) -> Tensor:
        x = self._after_attention.added(x, self._attention(self._before_attention(x), rotation, cache))
        gate, up = self._gate_and_up(self._before_mlp(x)).view(2, 1, -1)
        return self._after_mlp.added(x, self._down(F.gelu(gate, approximate="tanh") * up))


class _Attention:
    """(1, D) → (1, D); queries and keys are normed and turned together."""

    def __init__(self, attention: Attention) -> None:
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._into = _Product(*projections)
        self._out = _Product(attention.o_proj)
        self._softcap = attention.softcap
        self._head_dim = attention.head_dim
        queries, keys, _ = (projection.out_features // attention.head_dim for projection in projections)
        self._queries, self._turning = queries, queries + keys  # heads: queries, keys, values
        self._factor = torch.tensor([attention.scale] * queries + [1.0] * keys)[:, None]
        self._groups = keys
        self._eps: Tensor | None = None
        if attention.has_qk_norm:
            norms = [attention.q_norm] * queries + [attention.k_norm] * keys
            self._factor = self._factor * (1.0 + torch.stack([norm.weight.detach().float() for norm in norms]))
            self._eps = torch.tensor(attention.q_norm.eps)

    def __call__(self, x: Tensor, rotation: Rotation, cache: LayerCache) -> Tensor:
        heads = self._into(x).view(-1, self._head_dim)
        turning, values = heads[: self._turning], heads[self._turning :]
        factor = self._factor
        if self._eps is not None:
            norms = torch.linalg.vector_norm(turning, dim=-1, keepdim=True)
            factor = factor * torch.addcmul(self._eps, norms, norms, value=1 / self._head_dim).rsqrt()
        turned = rotation(turning * factor)
        queries = turned[: self._queries].view(self._groups, -1, self._head_dim)
        new = (vectors[None, :, None].to(self._into.dtype) for vectors in (turned[self._queries :], values))
        all_keys, all_values = cache.append(*new)  # in the dtype in which the model itself remembers
        scores = torch.bmm(queries, all_keys[0].float().transpose(1, 2))  # (G, H/G, S)
        if self._softcap is not None:
            scores = self._softcap * torch.tanh(scores / self._softcap)
        return self._out(torch.bmm(scores.softmax(dim=-1), all_values[0].float()).view(1, -1))


class _Norm:
    """float32 (1, D) → the same: ``RMSNorm`` of one row, whose root mean square is a number."""

    def __init__(self, norm: RMSNorm) -> None:
        self._factor = 1.0 + norm.weight.detach().float()
        self._eps = norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return x * self._factor * self._scale(x)

    def added(self, x: Tensor, update: Tensor) -> Tensor:
        """``x`` + the norm of ``update``."""
        return torch.addcmul(x, update, self._factor, value=self._scale(update))

    def _scale(self, x: Tensor) -> float:
        return math.pow(float(torch.linalg.vector_norm(x)) ** 2 / x.shape[-1] + self._eps, -0.5)


class _Product:
    """float32 (1, K) → float32 (1, N): layers that read the same vector as one matrix, in the weights' own dtype."""

    def __init__(self, *layers: nn.Module) -> None:
        self._layer = layers[0] if len(layers) == 1 else _side_by_side(layers)
        assert isinstance(self._layer, (nn.Linear, Int8Linear))
        weight = self._layer.whole if isinstance(self._layer, Int8Linear) else self._layer.weight
        self.dtype = torch.float32 if isinstance(self._layer, Int8Linear) else weight.dtype
        self._threads = torch.get_num_threads() if weight.numel() >= _WORTH_WAKING else 1

    def __call__(self, x: Tensor) -> Tensor:
        with using_threads(self._threads):
            product: Tensor = self._layer(x.to(self.dtype))
        return product.float()


def _side_by_side(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer that gives what all of ``layers`` give, one after the other; theirs become views of its weights."""
    quantized = [layer for layer in layers if isinstance(layer, Int8Linear)]
    if quantized:
        whole = torch.cat([layer.whole for layer in quantized])
        scale = torch.cat([layer.scale for layer in quantized])
        start = 0
        for layer in quantized:
            end = start + layer.out_features
            layer.whole, layer.scale, start = whole[start:end], scale[start:end], end
        return Int8Linear(whole, scale)
    plain = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weight = torch.cat([linear.weight.data for linear in plain])
    together = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    together.weight = nn.Parameter(weight, requires_grad=False)
    _lay_out(together)
    start = 0
    for linear in plain:
        linear.weight.data = together.weight.data[start : start + linear.out_features]
        start += linear.out_features
    return together


def _lay_out(layer: nn.Linear | nn.Embedding) -> None:
    """In float32, keep a matrix column by column: of a tall one BLAS then makes the product in half the time."""
    if layer.weight.dtype == torch.float32:
        layer.weight.data = layer.weight.data.t().contiguous().t()
