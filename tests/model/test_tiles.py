"""Attention in tiles against that over all keys: on a CPU FlexAttention is plain products with the same functions."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask

from gemmazero.data.batch import document_numbers
from gemmazero.model.attention import attend
from gemmazero.model.gemma import through_block
from gemmazero.model.sight import Sight, sight, visible
from gemmazero.model.tiles import TILE, tiles
from tiny_run import MODEL, make_model

CPU = torch.device("cpu")
GEMMA2 = replace(MODEL, model_type="gemma2", attn_logit_softcapping=20.0, query_pre_attn_scalar=12)
UNFUSED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    """Torch traces it uncompiled, too, and takes what differed before for a variable; 2.15 takes no such soft-cap."""
    torch.compiler.reset()


@pytest.fixture
def gradient_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention refuses one there, for its compiled code has none; its plain products do."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


def documents_of(time: int) -> Tensor:
    places = torch.arange(time)
    return torch.stack((places // 45, (places > 129).long())).int()


@UNFUSED
@pytest.mark.usefixtures("gradient_on_a_cpu")
@pytest.mark.parametrize(
    ("time", "window", "has_documents", "softcap"),
    [
        (128, None, False, 0.7),
        (200, 17, False, None),
        (257, 150, True, 0.7),
        (200, None, True, None),
        (129, 1, True, None),
    ],
)
def test_attention_in_tiles_is_that_over_all_keys(
    time: int, window: int | None, has_documents: bool, softcap: float | None
) -> None:
    generator, places = torch.Generator().manual_seed(0), torch.arange(time)
    shapes = (2, 4, time, 16), (2, 2, time, 16), (2, 2, time, 16)
    heads = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    queries, keys, values = heads
    documents = documents_of(time) if has_documents else None
    how = {"has_cache": False, "rows": 2, "is_capped": softcap is not None}
    in_tiles = sight(places, window, None, documents, **how, fuses=True)
    assert in_tiles.tiles is not None
    whole = Sight(visible(places, places, window, None, documents))
    seen = [attend(queries, keys, values, one, softcap) for one in (in_tiles, whole)]
    torch.testing.assert_close(*seen, rtol=1e-5, atol=1e-5)
    weights = torch.randn(seen[0].shape, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad((one * weights).sum(), heads) for one in seen]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("time", "window", "has_documents"), [(128, None, False), (500, 150, False), (700, 130, True)])
def test_tiles_by_keys_are_what_torch_makes_of_those_by_queries(
    time: int, window: int | None, has_documents: bool
) -> None:
    ours = tiles(time, window, documents_of(time) if has_documents else None, CPU)
    theirs = BlockMask.from_kv_blocks(
        ours.kv_num_blocks,
        ours.kv_indices,
        ours.full_kv_num_blocks,
        ours.full_kv_indices,
        BLOCK_SIZE=TILE,
        mask_mod=ours.mask_mod,
        seq_lengths=(time, time),
    )
    for name in ("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert torch.equal(one, other)
        assert (one.dtype, one.stride()) == (other.dtype, other.stride())


@pytest.mark.parametrize("time", [128, 129, 500, 512, 640])
@pytest.mark.parametrize("window", [None, 1, 127, 128, 129, 200, 300])
@pytest.mark.parametrize("has_documents", [False, True])
def test_no_tile_is_left_out_and_those_called_full_show_everything(
    time: int, window: int | None, has_documents: bool
) -> None:
    places = torch.arange(time)
    documents = documents_of(time) if has_documents else None
    seen = visible(places, places, window, None, documents).expand(2 if has_documents else 1, 1, time, time)
    count = -(-time // TILE)
    padded = torch.zeros(len(seen), count * TILE, count * TILE)
    padded[:, :time, :time] = seen[:, 0]
    shares = padded.unflatten(2, (-1, TILE)).unflatten(1, (-1, TILE)).mean(dim=(2, 4))  # of each tile
    listed = tiles(time, window, documents, CPU)
    partial, full = (
        of_tiles(*lists)
        for lists in (
            (listed.kv_num_blocks, listed.kv_indices),
            (listed.full_kv_num_blocks, listed.full_kv_indices),
        )
    )
    assert not (partial & full).any()
    assert torch.equal(full, shares == 1)
    assert (partial | full)[shares > 0].all()
    if not has_documents:
        assert torch.equal(partial | full, shares > 0), "no work for nothing"
    for_keys = (
        of_tiles(listed.q_num_blocks, listed.q_indices),
        of_tiles(listed.full_q_num_blocks, listed.full_q_indices),
    )
    assert torch.equal(for_keys[0], partial.mT)
    assert torch.equal(for_keys[1], full.mT)


def of_tiles(counts: Tensor | None, order: Tensor | None) -> Tensor:
    """bool (B, N, N): the tiles that the first so many entries of each row of ``order`` name."""
    assert counts is not None
    assert order is not None
    named = torch.zeros(order.shape, dtype=torch.bool)
    for row, column, line in torch.cartesian_prod(*(torch.arange(size) for size in counts.shape)).tolist():
        named[row, column, line, order[row, column, line, : counts[row, column, line]].long()] = True
    return named[:, 0]


def test_documents_are_not_read_beyond() -> None:
    """Four documents of one tile each: none needs a tile of another."""
    documents = (torch.arange(512) // 128)[None].int()
    listed = tiles(512, None, documents, CPU)
    assert listed.kv_num_blocks.tolist() == [[[1, 1, 1, 1]]]
    assert listed.kv_indices[0, 0, :, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings(  # what torch's compiler does to itself
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning",
)
@pytest.mark.usefixtures("gradient_on_a_cpu")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_kind_and_shape_is_compiled_once_whatever_the_documents(checkpointing: bool) -> None:
    """All of the compiler but the machine code, which there is none of for a CPU's backward pass."""
    made: list[GraphModule] = []

    def counted(graph: GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return make_boxed_func(graph.forward)

    compiler = aot_autograd(fw_compiler=counted, bw_compiler=counted)
    compiled = torch.compile(through_block, dynamic=False, backend=compiler)
    generator = torch.Generator().manual_seed(1)
    for rows in (2, 2, 1, 2):
        ids = torch.randint(0, 40, (rows, 200), generator=generator)
        gradients = []
        for through in (compiled, through_block):
            model = make_model(config=replace(GEMMA2, max_position_embeddings=256)).train()
            model.model.through, model.model.fuses = through, through is compiled
            model.model.gradient_checkpointing = checkpointing
            model.hidden(ids, documents=document_numbers(ids, 7)).square().sum().backward()
            gradients.append({name: weight.grad for name, weight in model.named_parameters() if "lm_head" not in name})
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3)
    kinds, shapes, passes = 2, 2, 2
    assert len(made) == kinds * shapes * passes
    assert all(any("flex_attention" in str(node.target) for node in graph.graph.nodes) for graph in made)


def test_tiles_without_documents_are_made_once() -> None:
    assert tiles(512, 200, None, CPU) is tiles(512, 200, None, CPU)
    assert tiles(512, 200, None, CPU) is not tiles(512, 201, None, CPU)


def test_tiles_are_for_what_flash_attention_cannot_do() -> None:
    documents, how = documents_of(200), {"has_cache": False, "rows": 2, "fuses": True}
    places = torch.arange(200)
    for window, some, is_capped in ((199, None, False), (None, documents, False), (None, None, True)):
        assert sight(places, window, None, some, **how, is_capped=is_capped).tiles is not None
        short = None if some is None else some[:, :127]
        assert sight(places[:127], window and 50, None, short, **how, is_capped=is_capped).tiles is None
    for window in (None, 200):
        assert sight(places, window, None, None, **how).tiles is None
        assert sight(places, window, None, None, **how).is_causal


@UNFUSED
def test_only_training_looks_in_tiles() -> None:
    model = make_model(config=replace(GEMMA2, max_position_embeddings=256))
    ids = torch.randint(0, 256, (2, 150), generator=torch.Generator().manual_seed(1))
    documents = document_numbers(ids, 7)
    plain = model.eval()(ids, documents=documents)
    model.model.fuses = True
    assert torch.equal(model(ids, documents=documents), plain)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(ids, documents=documents), plain, rtol=1e-4, atol=1e-4)
    with pytest.raises(NotImplementedError, match="FlexAttention does not support backward on CPU"):
        model(ids, documents=documents)
