"""What training takes of a device's memory: measured on one layer of each kind, then multiplied.

Nothing here knows how a layer computes: a small forward and backward pass is run, and its tensors are counted.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gemmazero.config import LayerType, ModelConfig, TrainConfig
from gemmazero.data.batch import Batch
from gemmazero.model.gemma import Gemma, through_block
from gemmazero.runtime import set_up
from gemmazero.training.compiling import fuses_loss
from gemmazero.training.loss import rows_at_once
from gemmazero.training.optimizer import Optimizer
from gemmazero.training.precision import Precision

_MANY_IDS = 4096  # enough for an embedding to get 8-bit moments, which small tensors do not


@dataclass(frozen=True)
class Bytes:
    """``fixed`` bytes, and ``each`` for every sequence of a micro-batch."""

    fixed: float = 0.0
    each: float = 0.0

    @classmethod
    def through(cls, one: float, two: float) -> Self:
        """What is ``one`` for one sequence, and ``two`` for two."""
        return cls(2 * one - two, two - one)

    def of(self, sequences: int) -> int:
        """Bytes for so many sequences."""
        return max(0, round(self.fixed + self.each * sequences))

    def times(self, count: int) -> "Bytes":
        """All of it so many times."""
        return Bytes(self.fixed * count, self.each * count)

    def plus(self, other: "Bytes") -> "Bytes":
        """Both together."""
        return Bytes(self.fixed + other.fixed, self.each + other.each)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a run takes, by part; not all are there at once, and ``total`` is the most that ever are."""

    process: int
    """Python, torch and what else was there before."""
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass of a micro-batch keeps for the backward pass."""
    logits: int
    """A chunk of them: in float32, or where the loss is fused in the dtype of the products."""
    total: int


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """The bytes of a run, as a function of its micro-batch size."""

    parameters: int
    output: int
    """The output matrix: a gradient of it is made by the loss, and another one by the embedding where that is tied."""
    optimizer: int
    activations: Bytes
    working: Bytes
    """Beside the activations, while one layer is gone back through."""
    row: int
    """A position's logits."""
    rows: int
    """Positions in a chunk of them, at most."""
    chunks: float
    """Tensors of the size of a chunk, which the loss has at once."""

    def memory(self, settings: TrainConfig, micro_batch_size: int, process: int = 0) -> Memory:
        """What training with such micro-batches takes, on top of ``process``."""
        activations, working = self.activations.of(micro_batch_size), self.working.of(micro_batch_size)
        gradients = self.parameters
        logits = self.row * min(self.rows, micro_batch_size * settings.sequence_length)
        there_already = gradients if micro_batch_size < settings.batch_size else 0
        most = max(
            there_already + activations + round(self.chunks * logits) + 2 * self.output,
            there_already + activations + self.output + working,
            gradients + self.output,
        )
        return Memory(
            process=process,
            parameters=self.parameters,
            gradients=gradients,
            optimizer=self.optimizer,
            activations=activations,
            logits=logits,
            total=process + self.parameters + self.optimizer + most,
        )


def memory_model(model: ModelConfig, settings: TrainConfig, device: torch.device) -> MemoryModel:
    """Measure what one and two sequences take in a layer of each kind, for the rest there is a formula.

    ``settings`` are resolved, but for ``micro_batch_size``; their threads are those of this process from now on.
    """
    set_up(settings.threads)  # the run's: code is compiled anew where autograd's threads, made now, count others
    precision = Precision(settings.precision, device)
    activations, working = Bytes(), Bytes()
    for kind, count in Counter(model.layer_types).items():
        layer = _one_layer(model, kind, 2, device)
        layer.model.gradient_checkpointing = settings.gradient_checkpointing
        one, two = (_through_layer(layer, settings, precision, size) for size in (1, 2))
        before, kept, more = (Bytes.through(*pair) for pair in zip(one, two, strict=True))
        activations = activations.plus(before).plus(kept.times(count))
        working = max(working, more, key=lambda bytes_: bytes_.of(settings.batch_size))
    is_fused, itemsize = fuses_loss(settings), 4 if settings.precision == "fp32" else 2
    in_layer, in_others = _optimizer_bytes(_one_layer(model, model.layer_types[0], _MANY_IDS, device), settings)
    return MemoryModel(
        parameters=4 * model.parameters,
        output=4 * model.vocab_size * model.hidden_size,
        optimizer=model.num_hidden_layers * in_layer + round(model.vocab_size / _MANY_IDS * in_others),
        activations=activations,
        working=working,
        row=(itemsize if is_fused else 4) * model.vocab_size,
        rows=rows_at_once(model.vocab_size, settings.device, itemsize, is_fused=is_fused),
        chunks=1.0
        if is_fused
        else 1 + (settings.precision != "fp32") / 2 + (model.final_logit_softcapping is not None),
    )


def _one_layer(model: ModelConfig, kind: LayerType, ids: int, device: torch.device) -> Gemma:
    alone = replace(model, vocab_size=ids, pad_token_id=None, num_hidden_layers=1, layer_types=(kind,))
    return Gemma(alone).to(device).train()


def _through_layer(layer: Gemma, settings: TrainConfig, precision: Precision, size: int) -> tuple[int, int, int]:
    """Bytes that all layers share, that the layer keeps, and more that the backward pass takes, without gradients."""
    device = layer.output_weight.device
    ids = torch.zeros(size, settings.sequence_length, dtype=torch.int64, device=device)
    batch = Batch.of(ids, ids, 1 if settings.mask_documents else None)
    passed: list[int] = []

    def through(*arguments: Any) -> Tensor:
        passed.append(live.now)
        out = through_block(*arguments)
        passed.append(live.now)
        return out

    layer.model.through = through  # type: ignore[assignment]
    with counted() as live:
        with precision.autocast():
            hidden = layer.hidden(batch.ids, documents=batch.documents)
        kept = live.now
        hidden.backward(torch.zeros_like(hidden))  # type: ignore[no-untyped-call]
        gradients = sum(parameter.grad.nbytes for parameter in layer.parameters() if parameter.grad is not None)
    layer.zero_grad()
    before, after = passed[:2]  # of the first pass; checkpointing makes another
    return kept - (after - before), after - before, max(0, live.most - kept - gradients)


def _optimizer_bytes(layer: Gemma, settings: TrainConfig) -> tuple[int, int]:
    """What the optimizer remembers of the layer's parameters, and of the others: embedding, head, last norm."""
    optimizer = Optimizer(layer, settings)
    for parameter in optimizer.parameters:
        parameter.grad = torch.zeros_like(parameter)
    for part in optimizer.parts:
        part.step()
    optimizer.zero_grad()
    inside = outside = 0
    for name, value in optimizer.state_dict().items():
        if "qmap" not in name and value.dim():  # all share those
            if "layers." in name:
                inside += value.nbytes
            else:
                outside += value.nbytes
    return inside, outside


class Count:
    """Bytes of tensors that are alive ``now``, and the ``most`` that ever were at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._alive: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already, until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what every operation makes."""

    def __init__(self, count: Count) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = count

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        before = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in before:  # else a view, or in place
                self._count.add(value)
        return result


@contextmanager
def counted() -> Iterator[Count]:
    """Count the bytes of the tensors made within."""
    count = Count()
    with _Counting(count):
        yield count
