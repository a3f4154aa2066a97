"""A few tokens through the model on a CPU, by machine code made of ``native_step.cpp``."""

import ctypes
from ctypes import Structure, c_float, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor, nn

from gemmazero.config import LayerType
from gemmazero.errors import UsageError
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Block, Gemma
from gemmazero.model.norm import RMSNorm
from gemmazero.model.quantized import Int8Linear
from gemmazero.model.rope import frequencies
from gemmazero.native_code import native_code

MOST_TOKENS = 32  # of a step; on two AVX2 cores 64 float32 ones were no sooner read than by torch's products
_WEIGHTS_A_THREAD = 2_000_000  # with fewer, starting another took as long as it saved, on two cores
_MOST_THREADS = 16  # a bound, not measured: each is started anew for every step
_TYPES = {torch.float32: "float", torch.bfloat16: "BFloat16", torch.int8: "int8_t"}


class NativeStep:
    """Reads the next tokens of every text.

    Between the matrices all is float32; a vector that is multiplied with 8-bit weights is rounded to whole multiples of
    1 / 32767 of its largest number. The model's weights must not change afterwards.

    Args:
        model: ``can_read`` it.

    Raises:
        CompilationError: there is no compiler.
    """

    def __init__(self, model: Gemma) -> None:
        config, decoder = model.config, model.model
        self._model = model
        self._kept: list[Tensor] = []  # alive as long as they are pointed to
        head = decoder.embed_tokens if config.tie_word_embeddings else model.lm_head
        weight_type = _weight(head).dtype
        remembered = torch.float32 if weight_type == torch.int8 else weight_type
        shape = (1, config.num_key_value_heads, 0, config.head_dim)
        self._like = torch.empty(shape, dtype=remembered, device="cpu")
        types = [f"WEIGHT={_TYPES[weight_type]}", f"CACHED={_TYPES[remembered]}"]
        self._read = native_code(Path(__file__).with_suffix(".cpp"), types).read_tokens
        self._kinds = sorted(set(config.layer_types))
        cpu = torch.device("cpu")
        self._frequencies = [self._keep(frequencies(config.head_dim, *decoder.rope(kind), cpu)) for kind in self._kinds]
        blocks = [block for block in decoder.layers if isinstance(block, Block)]
        self._layers = (_Layer * len(blocks))(*map(self._layer, blocks, config.layer_types))
        attention = blocks[0].self_attn
        self._shape = _Model(
            layers=len(blocks),
            width=config.hidden_size,
            heads=config.num_attention_heads,
            groups=config.num_key_value_heads,
            head_dim=config.head_dim,
            hidden=config.intermediate_size,
            eps=config.rms_norm_eps,
            scale=attention.scale,
            attention_softcap=attention.softcap or 0.0,
            final_softcap=config.final_logit_softcapping or 0.0,
            norm=self._norm(decoder.norm),
            head=self._matrix(head),
        )
        weights = sum(tensor.numel() for tensor in self._kept)
        self._threads = max(1, min(torch.get_num_threads(), _MOST_THREADS, weights // _WEIGHTS_A_THREAD))

    @staticmethod
    def can_read(model: Gemma) -> bool:
        """Whether it is on a CPU, and all its matrices are of one type that machine code is made for."""
        matrices = (nn.Linear, nn.Embedding, Int8Linear)
        types = {_weight(layer).dtype for layer in model.modules() if isinstance(layer, matrices)}
        return model.device.type == "cpu" and len(types) == 1 and types <= _TYPES.keys()

    def __call__(self, ids: Tensor, cache: Cache, positions: int) -> Tensor:
        """int64 (B, T), the tokens after those in the cache → float32 (B, V): what comes after the last of them.

        Args:
            ids: T is 1, or B · T at most ``MOST_TOKENS``.
            cache: of what was read before; it will hold ``positions`` at most.
            positions: of each row, those of the padding included.

        Raises:
            UsageError: the cache is of other rows, or of a model in another type.
        """
        texts, new = ids.shape
        like = self._like.expand(texts, -1, -1, -1)
        slots = [memory.slot(positions, new, like) for memory in cache.layers]
        if any((slot.keys[:, :, :0].shape, slot.keys.dtype) != (like.shape, like.dtype) for slot in slots):
            raise UsageError("the cache was filled by other rows, or by another model", "begin with an empty one")
        layers = type(self._layers).from_buffer_copy(self._layers)  # another thread may read another text meanwhile
        for layer, slot in zip(layers, slots, strict=True):
            layer.keys, layer.values = slot.keys.data_ptr(), slot.values.data_ptr()
        padding = [0] * texts if cache.padding is None else cache.padding.tolist()
        at = [max(cache.length + index - skipped, 0) for skipped in padding for index in range(new)]  # in its text
        count, numbers = len(at), c_int64 * len(at)
        places = (_Places * len(self._kinds))()
        for kind, frequency, place in zip(self._kinds, self._frequencies, places, strict=True):
            one = self._model.config.layer_types.index(kind)  # what is seen is the same in all layers of a kind
            slot, window = slots[one], cache.layers[one].window
            own = [slot.last + index for index in range(new)] * texts
            edge = [0 if window is None else here + 1 - window for here in own]
            beginning = [here - position for here, position in zip(own, at, strict=True)]  # after the padding
            place.first = numbers(*(max(slot.first, *limits) for limits in zip(edge, beginning, strict=True)))
            place.own, place.capacity, place.frequencies = numbers(*own), slot.keys.shape[2], frequency
        embedded = self._model.model.embed(ids).float().contiguous()
        tokens = _Tokens(
            embedded=embedded.data_ptr(),
            texts=numbers(*(text for text in range(texts) for _ in range(new))),
            positions=numbers(*at),
            asked_for=(c_int64 * texts)(*range(new - 1, count, new)),
            count=count,
            asked=texts,
            kinds=len(self._kinds),
        )
        logits = torch.empty(texts, self._shape.head.rows, dtype=torch.float32, device="cpu")
        arguments = (ctypes.byref(self._shape), layers, places, ctypes.byref(tokens), c_void_p(logits.data_ptr()))
        if self._read(*arguments, self._threads):  # no more threads are to be had
            self._threads = 1
            self._read(*arguments, 1)
        cache.length += new
        return logits

    def _layer(self, block: Block, kind: LayerType) -> "_Layer":
        attention, mlp = block.self_attn, block.mlp
        layer = _Layer(
            before_attention=self._norm(block.input_layernorm),
            after_attention=self._norm(block.post_attention_layernorm),
            before_mlp=self._norm(block.pre_feedforward_layernorm),
            after_mlp=self._norm(block.post_feedforward_layernorm),
            kind=self._kinds.index(kind),
        )
        if attention.has_qk_norm:
            layer.of_queries, layer.of_keys = self._norm(attention.q_norm), self._norm(attention.k_norm)
        for part, names in (
            (attention, ("q_proj", "k_proj", "v_proj", "o_proj")),
            (mlp, ("gate_proj", "up_proj", "down_proj")),
        ):
            for name in names:
                setattr(layer, name, self._matrix(part.get_submodule(name)))
        return layer

    def _norm(self, norm: RMSNorm) -> int:
        return self._keep(1.0 + norm.weight.detach().float())

    def _matrix(self, layer: nn.Module) -> "_Matrix":
        weight = _weight(layer)
        scales = self._keep(layer.scale) if isinstance(layer, Int8Linear) else None
        return _Matrix(self._keep(weight), scales, *weight.shape)

    def _keep(self, tensor: Tensor) -> int:
        """Its address, where its numbers stand row by row."""
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.whole if isinstance(layer, Int8Linear) else layer.weight
    assert isinstance(weight, Tensor)
    return weight


class _Matrix(Structure):  # these as in native_step.cpp
    _fields_ = (("weights", c_void_p), ("scales", c_void_p), ("rows", c_int64), ("columns", c_int64))


class _Layer(Structure):
    _norms = ("before_attention", "of_queries", "of_keys", "after_attention", "before_mlp", "after_mlp")
    _matrices = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    _fields_ = (
        *((name, c_void_p) for name in _norms),
        *((name, _Matrix) for name in _matrices),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("kind", c_int64),
    )


class _Model(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "width", "heads", "groups", "head_dim", "hidden")),
        *((name, c_float) for name in ("eps", "scale", "attention_softcap", "final_softcap")),
        ("norm", c_void_p),
        ("head", _Matrix),
    )


class _Places(Structure):
    _fields_ = (
        ("frequencies", c_void_p),
        ("first", ctypes.POINTER(c_int64)),
        ("own", ctypes.POINTER(c_int64)),
        ("capacity", c_int64),
    )


class _Tokens(Structure):
    _fields_ = (
        ("embedded", c_void_p),
        *((name, ctypes.POINTER(c_int64)) for name in ("texts", "positions", "asked_for")),
        *((name, c_int64) for name in ("count", "asked", "kinds")),
    )
