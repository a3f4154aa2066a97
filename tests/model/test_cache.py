from collections.abc import Sequence

import pytest
import torch
from gemma_oracle import FULL, SLIDING, random_gemma, random_ids, tiny_config
from torch import Tensor

from gemmazero.model.cache import Cache, LayerCache
from gemmazero.model.gemma import Gemma

NOISE = 1e-5  # of the largest logit


def read(model: Gemma, ids: Tensor, chunks: Sequence[int], padding: Tensor | None = None) -> Tensor:
    """The logits of ``ids`` (B, T), read through a cache, so many positions at a time."""
    assert sum(chunks) == ids.shape[1]
    cache = Cache(model.config, padding)
    with torch.no_grad():
        return torch.cat([model(part, cache) for part in ids.split(list(chunks), dim=1)], dim=1)


def assert_same_logits(cached: Tensor, plain: Tensor) -> None:
    assert (cached - plain).abs().max() <= NOISE * plain.abs().max()


KINDS = {"sliding": (SLIDING, SLIDING), "full": (FULL, FULL), "both": (SLIDING, FULL)}
CHUNKS = {
    "token by token": (1,) * 29,
    "prefill, then tokens": (13, *(1,) * 16),
    "prefill shorter than the window": (3, *(1,) * 26),
    "chunks": (4, 5, 6, 7, 7),
    "mixed": (7, 1, 1, 9, 1, 10),
    "at once": (29,),
}


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("model_type", ["gemma3_text", "gemma2"])
def test_cached_equals_uncached_at_every_position_past_four_windows(model_type: str, kinds: str, chunks: str) -> None:
    config = tiny_config(
        model_type=model_type, num_hidden_layers=2, layer_types=KINDS[kinds],
        attn_logit_softcapping=1.0 if model_type == "gemma2" else None,
    )  # fmt: skip
    model = random_gemma(config)
    ids = random_ids(config, batch=2, time=29)  # the window is 5
    with torch.no_grad():
        plain = model(ids)
    assert_same_logits(read(model, ids, CHUNKS[chunks]), plain)


@pytest.mark.parametrize("window", [1, 2, 4, 64])
def test_any_window_is_cached_right(window: int) -> None:
    config = tiny_config(sliding_window=window)
    model = random_gemma(config)
    ids = random_ids(config, batch=1, time=20)
    with torch.no_grad():
        plain = model(ids)
    assert_same_logits(read(model, ids, (3, 1, 1, 6, *(1,) * 9)), plain)


def test_cached_equals_uncached_when_its_buffers_have_moved() -> None:
    config = tiny_config(sliding_window=100, num_hidden_layers=2, layer_types=(SLIDING, FULL))
    model = random_gemma(config)
    ids = random_ids(config, batch=2, time=600)
    with torch.no_grad():
        plain = model(ids)
    assert_same_logits(read(model, ids, (250, *(1,) * 20, 300, *(1,) * 30)), plain)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("chunks", [(20, 1, 1, 1, 1, 1, 3, 1), (29,), (1,) * 29], ids=["prefill", "at once", "tokens"])
def test_each_row_of_a_left_padded_batch_is_read_as_if_alone(kinds: str, chunks: tuple[int, ...]) -> None:
    config = tiny_config(num_hidden_layers=2, layer_types=KINDS[kinds])
    model = random_gemma(config)
    padding = torch.tensor([0, 3, 16])
    ids = random_ids(config, batch=3, time=29)
    together = read(model, ids, chunks, padding)
    assert together.isfinite().all()
    for row, skipped in enumerate(padding.tolist()):
        with torch.no_grad():
            alone = model(ids[row : row + 1, skipped:])
        assert_same_logits(together[row : row + 1, skipped:], alone)


def test_what_stands_in_the_padding_changes_nothing() -> None:
    config = tiny_config()
    model = random_gemma(config)
    ids = random_ids(config, batch=1, time=20)
    other = ids.clone()
    other[:, :6] = (other[:, :6] + 1) % config.vocab_size
    padding = torch.tensor([6])
    both = [read(model, x, (12, *(1,) * 8), padding)[:, 6:] for x in (ids, other)]
    assert torch.equal(*both)


def numbered(positions: range) -> Tensor:
    """One head of size 1 whose key at a position is the position."""
    return torch.tensor(positions, dtype=torch.float32)[None, None, :, None]


def test_sliding_layer_gives_its_window_and_full_layer_everything() -> None:
    sliding, full = LayerCache(window=4), LayerCache(window=None)
    given = []
    for positions in (range(6), range(6, 7), range(7, 10)):
        for cache in (sliding, full):
            keys, values = cache.append(numbered(positions), -numbered(positions))
            assert torch.equal(values, -keys)
            given.append(keys.flatten().int().tolist())
    assert given == [
        [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5],
        [3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6],
        [4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]  # fmt: skip


def test_sliding_layer_holds_bounded_memory() -> None:
    cache = LayerCache(window=8)
    sizes = set()
    for position in range(2000):
        keys, _ = cache.append(numbered(range(position, position + 1)), numbered(range(position, position + 1)))
        sizes.add(keys.untyped_storage().nbytes())
    assert max(sizes) <= 4 * 256  # float32, of which 256 fit before the window moves to the front
    assert keys.flatten().tolist() == list(range(1992, 2000))


def test_cache_counts_the_positions_that_were_read() -> None:
    config = tiny_config()
    model = random_gemma(config)
    cache = Cache(config)
    for part in (5, 1, 2):
        model(random_ids(config, batch=1, time=part), cache)
    assert cache.length == 8
    assert [layer.window for layer in cache.layers] == [5, None, 5, None]


@pytest.mark.parametrize("window", [None, 1, 5, 200])
def test_slots_of_many_positions_are_as_many_slots_of_one_also_in_a_cache_that_was_never_appended_to(
    window: int | None,
) -> None:
    keys, like = torch.arange(400.0)[None, None, :, None], torch.empty(1, 1, 0, 1)
    singly, together = LayerCache(window), LayerCache(window)
    for start in range(0, 400, 40):
        slot = together.slot(400, 40, like)
        slot.keys[:, :, slot.last : slot.last + 40] = keys[:, :, start : start + 40]
        for position in range(start, start + 40):
            alone = singly.slot(400, like=like)
            alone.keys[:, :, alone.last] = keys[:, :, position]
            seen = slot.last + position - start - (alone.last - alone.first)
            assert torch.equal(
                slot.keys[:, :, seen : slot.last + position - start + 1], alone.keys[:, :, alone.first : alone.last + 1]
            )
        assert slot.keys.shape == alone.keys.shape


@pytest.mark.parametrize("window", [None, 1, 5, 200])
def test_slots_are_in_buffers_that_stay_while_a_text_grows_and_slides(window: int | None) -> None:
    drawn = torch.randn(2, 1, 3, 900, 4, generator=torch.Generator().manual_seed(0))
    keys, values = drawn
    cache, places = LayerCache(window), set()
    cache.append(keys[:, :, :300], values[:, :, :300])
    for position in range(300, 900):
        slot = cache.slot(900)
        slot.keys[:, :, slot.last], slot.values[:, :, slot.last] = drawn[..., position, :]
        places.add((slot.keys.data_ptr(), slot.values.data_ptr(), slot.keys.shape))
        first = 0 if window is None else max(0, position - window + 1)
        assert torch.equal(slot.keys[:, :, slot.first : slot.last + 1], keys[:, :, first : position + 1])
        assert torch.equal(slot.values[:, :, slot.first : slot.last + 1], values[:, :, first : position + 1])
    assert len(places) == 1
    assert slot.keys.isfinite().all()
    assert slot.keys.shape[2] == {None: 1024, 1: 256, 5: 256, 200: 512}[window]
    more = torch.ones(1, 3, 2, 4)
    seen, _ = cache.append(more, more)
    assert torch.equal(seen[:, :, :-2], keys[:, :, 900 - seen.shape[2] + 2 :])
