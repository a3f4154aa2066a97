"""Prompt ids → new ids, one a step: prefill, then decode with the cache."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from gemmazero.errors import CheckpointError, CompilationError, UsageError
from gemmazero.inference.compiled_token import CompiledToken
from gemmazero.inference.native_step import MOST_TOKENS, NativeStep
from gemmazero.inference.one_token import OneToken
from gemmazero.inference.sampling import Sampler
from gemmazero.model.cache import Cache
from gemmazero.model.gemma import Gemma

_PREFILL_CHUNK = 512  # positions read at once: bounds the attention scores of a long prompt


class Generator:
    """Reads prompts and writes on, whatever their lengths.

    Args:
        model: put into evaluation mode.
        compile: single tokens, and on a CPU short prompts, are read by machine code. Left out, they are on a CPU with a
            C++ compiler, which takes two seconds when it is first used; a GPU takes a minute.

    Raises:
        CompilationError: it was asked for on a CPU, and there is no compiler.
    """

    def __init__(self, model: Gemma, *, compile: bool | None = None) -> None:
        self.model = model.eval()
        self.refusal: CompilationError | None = None
        """Why nothing is read by machine code, where it would have been."""
        self._native_step = self._make_native_step(compile)
        self._compiled_token = CompiledToken(model) if compile and self._native_step is None else None
        eager = self._native_step is None and self._compiled_token is None
        self._one_token = OneToken(model) if eager and model.device.type == "cpu" else None
        self.context: int = model.config.max_position_embeddings

    @property
    def compiles_at_second_token(self) -> bool:
        """Whether the first single token of a shape waits a minute for a compiler."""
        return self._compiled_token is not None

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        *,
        max_tokens: int,
        end_ids: Collection[int] = (),
        cache: Cache | None = None,
    ) -> Iterator[list[int | None]]:
        """Write on, step by step, until every row is done.

        A row is done after an id of ``end_ids``, after ``max_tokens`` ids, or when the context is full. Closing the
        iterator leaves the cache with everything up to, and not including, the ids it yielded last.

        Args:
            prompts: the ids of each row, at least one.
            sampler: draws each next id.
            generators: the randomness of each row.
            max_tokens: ids to write at most, a row.
            end_ids: ids after which a row is done.
            cache: of a model that has already read the beginning of ``prompts``, without padding; only what is not
                yet in it is read.

        Yields:
            for each row its new id, None once it was done before.

        Raises:
            UsageError: a prompt is empty, or longer than the model's context, or the cache has read no less than it.
            CompilationError: it was to be compiled, and there is no compiler.
            CheckpointError: what the model gives is no number.
        """
        rows = [list(prompt) for prompt in prompts]
        if not all(rows):
            raise UsageError("a prompt has no token", "begin with the one that ends a document")
        longest = max(map(len, rows))
        if longest > self.context:
            raise UsageError(
                f"the prompt is {longest} tokens long, the model's context {self.context}",
                f"shorten it by {longest - self.context} tokens",
            )
        limits = [min(len(row) + max_tokens, self.context) for row in rows]
        going = [len(row) < limit for row, limit in zip(rows, limits, strict=True)]
        positions = longest + max(limit - len(row) for row, limit in zip(rows, limits, strict=True))
        if cache is None:
            cache = self.empty_cache([longest - len(row) for row in rows])
        if any(going) and cache.length >= longest:
            raise UsageError(
                f"the cache has read {cache.length} tokens, the prompt has {longest}: there is none left to read",
                "begin with an empty cache",
            )
        unread = torch.tensor([[0] * (longest - len(row)) + row for row in rows])[:, cache.length :]
        while any(going):
            drawn = sampler(self._read(unread, cache, positions), rows, generators)
            step = [new if goes else None for new, goes in zip(drawn.tolist(), going, strict=True)]
            if -1 in step:
                hint = "try --dtype fp32 or bf16, or an earlier checkpoint"
                raise CheckpointError("the model's logits are not numbers", hint)
            for index, new in enumerate(step):
                if new is not None:
                    rows[index].append(new)
                    going[index] = new not in end_ids and len(rows[index]) < limits[index]
            yield step
            unread = torch.tensor([row[-1:] for row in rows])  # a row that is done reads on, unheard

    def empty_cache(self, padding: Sequence[int] = (0,)) -> Cache:
        """A cache that has read nothing, for rows that are padded on the left with so many positions each."""
        return Cache(self.model.config, torch.tensor(padding, device=self.model.device) if any(padding) else None)

    def _make_native_step(self, compile: bool | None) -> NativeStep | None:
        if compile is False or not NativeStep.can_read(self.model):
            return None
        try:
            return NativeStep(self.model)
        except CompilationError as error:
            if compile:
                raise
            self.refusal = error
            return None

    @torch.inference_mode()
    def _read(self, ids: Tensor, cache: Cache, positions: int) -> Tensor:
        """(B, T) → (B, V): what comes after the last position; the cache will hold ``positions`` at most."""
        ids = ids.to(self.model.device)
        if self._native_step is not None and (ids.shape[1] == 1 or ids.numel() <= MOST_TOKENS):
            return self._native_step(ids, cache, positions)
        if self._compiled_token is not None and ids.shape[1] == 1 and cache.length:
            return self._compiled_token(ids, cache, positions)
        if self._one_token is not None and ids.shape == (1, 1) and cache.padding is None:
            return self._one_token(ids, cache)
        for start in range(0, ids.shape[1], _PREFILL_CHUNK):
            hidden = self.model.hidden(ids[:, start : start + _PREFILL_CHUNK], cache)
        return self.model.logits(hidden[:, -1])
