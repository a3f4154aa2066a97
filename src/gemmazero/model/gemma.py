"""Gemma 2 and Gemma 3 (arXiv 2408.00118, 2503.19786), text only; parameters carry transformers' names.

Shape letters, here and everywhere: B batch, T time, S keys seen, D width (hidden_size), H query heads, G key-value
heads, K head size, F hidden (intermediate_size), V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gemmazero.config import LayerType, ModelConfig
from gemmazero.model.attention import Attention
from gemmazero.model.cache import Cache, LayerMemory
from gemmazero.model.gating import gated
from gemmazero.model.norm import RMSNorm
from gemmazero.model.rope import Rotation
from gemmazero.model.sight import Sight, positions_within, sight
from gemmazero.model.tall_linear import tall_linear


class Gemma(nn.Module):
    """ids (B, T) → logits (B, T, V); the same answer with and without a cache."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def output_weight(self) -> Tensor:
        """(V, D): the embedding where it is tied, else the head's own matrix."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.norm.weight.device

    def forward(self, ids: Tensor, cache: Cache | None = None, documents: Tensor | None = None) -> Tensor:
        """int64 (B, T) → float32 (B, T, V). With a cache, ``ids`` are the positions after those already in it.

        ``documents`` (B, T), never falling along T, says which document each token belongs to: attention stays inside
        of it, and positions begin at 0 in each. There is no cache then.
        """
        return self.logits(self.hidden(ids, cache, documents))

    def hidden(self, ids: Tensor, cache: Cache | None = None, documents: Tensor | None = None) -> Tensor:
        """int64 (B, T) → (B, T, D): what the output matrix turns into logits."""
        states: Tensor = self.model(ids, cache, documents)
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, D) → float32 (…, V), soft-capped."""
        tied = self.config.tie_word_embeddings
        logits = (tall_linear(hidden, self.model.embed_tokens.weight) if tied else self.lm_head(hidden)).float()
        cap = self.config.final_logit_softcapping
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Matrices ~ N(0, initializer_range), norm weights 0, as transformers draws them."""
        for parameter in self.parameters():
            if parameter.dim() == 1:
                parameter.zero_()
            else:
                parameter.normal_(0.0, self.config.initializer_range, generator=generator)


class Decoder(nn.Module):
    """Embedding, blocks, final norm.

    While it is trained, ``gradient_checkpointing`` recomputes each block in the backward pass, and ``through`` is what
    carries the stream through a block: ``through_block``, or the same compiled; ``fuses`` where that makes
    a kernel of FlexAttention.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.through = through_block
        self.fuses = False
        # Not drawn: a model is initialized or loaded later, and to draw on its meta device torch imports its compiler.
        vectors = torch.zeros(config.vocab_size, config.hidden_size)
        self.embed_tokens: nn.Embedding = nn.Embedding.from_pretrained(vectors, freeze=False)  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: Tensor, cache: Cache | None = None, documents: Tensor | None = None) -> Tensor:
        """int64 (B, T) → (B, T, D)."""
        assert cache is None or documents is None
        x = self.embed(ids)
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        dtype = torch.get_autocast_dtype(ids.device.type) if torch.is_autocast_enabled(ids.device.type) else x.dtype
        kinds = set(self.config.layer_types)
        views = {kind: self._view(kind, positions, len(ids), cache, documents, dtype) for kind in kinds}
        through = self.through if self.training else through_block
        for index, (block, kind) in enumerate(zip(self.layers, self.config.layer_types, strict=True)):
            rotation, seen = views[kind]
            if self.gradient_checkpointing and self.training:
                x = checkpoint(through, block, x, rotation, seen, None, use_reentrant=False, preserve_rng_state=False)
            else:
                x = through(block, x, rotation, seen, None if cache is None else cache.layers[index])
        if cache is not None:
            cache.length += ids.shape[1]
        normal: Tensor = self.norm(x)
        return normal

    def embed(self, ids: Tensor) -> Tensor:
        """int64 (B, T) → (B, T, D): their vectors · √D, which is rounded to the weights' dtype."""
        vectors: Tensor = self.embed_tokens(ids)
        return vectors * torch.full((), self.config.hidden_size**0.5, dtype=vectors.dtype, device=ids.device)

    def rotation(self, kind: LayerType, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """How every layer of one kind turns its queries and keys at ``positions``, (T) or (B, T)."""
        return Rotation(positions, self.config.head_dim, *self.rope(kind), dtype)

    def rope(self, kind: LayerType) -> tuple[float, float]:
        """The base of one kind of layer's rotation, and its linear scaling factor."""
        config = self.config
        if kind == "sliding_attention" and config.is_gemma3:
            return config.rope_local_base_freq, 1.0
        return config.rope_theta, config.rope_scaling_factor

    def _view(
        self,
        kind: LayerType,
        positions: Tensor,
        rows: int,
        cache: Cache | None,
        documents: Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[Rotation, Sight]:
        """What every layer of one kind shares: its rotation, and which keys each query sees."""
        config, padding = self.config, None if cache is None else cache.padding
        slides = kind == "sliding_attention"
        real = positions if padding is None else (positions - padding[:, None]).clamp(min=0)
        if documents is not None:
            real = positions_within(documents)
        window = config.sliding_window if slides else None
        seen = sight(
            positions, window, padding, documents, has_cache=cache is not None, rows=rows,
            is_capped=config.attn_logit_softcapping is not None, fuses=self.fuses and self.training,
        )  # fmt: skip
        return self.rotation(kind, real, dtype), seen


class Block(nn.Module):
    """(B, T, D) → (B, T, D): attention and a gated MLP, each between two norms, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = RMSNorm(width, eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(width, eps)
        self.pre_feedforward_layernorm = RMSNorm(width, eps)
        self.mlp = GatedMLP(config)
        self.post_feedforward_layernorm = RMSNorm(width, eps)

    def forward(self, x: Tensor, rotation: Rotation, sight: Sight, cache: LayerMemory | None) -> Tensor:
        """Under autocast the stream ``x`` stays in float32; only the matrix products are narrow."""
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), rotation, sight, cache))
        update: Tensor = self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        return x + update


def through_block(block: nn.Module, x: Tensor, rotation: Rotation, sight: Sight, cache: LayerMemory | None) -> Tensor:
    """(B, T, D) → (B, T, D): the block, called."""
    out: Tensor = block(x, rotation, sight, cache)
    return out


class GatedMLP(nn.Module):
    """GeGLU (arXiv 2002.05202): down(gelu(gate(x)) · up(x)), with the tanh approximation of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D)."""
        hidden: Tensor = self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))
        return hidden
