import subprocess
import sys

import pytest
import torch
from torch import Tensor
from transformers import generation as hf

from gemmazero.errors import UsageError
from gemmazero.inference.sampling import Sampler, row_generator

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
NAN, INF = float("nan"), float("inf")
SEEN = [[3, 1, 3, 40], [0, 5, 2, 7], [96, 95, 1, 1]]


def sampler(**values: float) -> Sampler:
    return Sampler(**(OFF | values))


def logits(scale: float = 3.0, seed: int = 0) -> Tensor:
    return torch.randn(3, 97, generator=torch.Generator().manual_seed(seed)) * scale


def filtered(chosen: Sampler, logits: Tensor, seen: list[list[int]]) -> Tensor:
    """(B, V) → (B, V): the logits of the candidates in their places, all others at -inf."""
    values, ids = chosen.candidates(logits, seen)
    return values if ids is None else torch.full_like(logits, -float("inf")).scatter(-1, ids, values)


def kept(filtered: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero()[:, 0].tolist() for row in filtered]


def assert_same_choice(ours: Tensor, theirs: Tensor) -> None:
    assert kept(ours) == kept(theirs)
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1))


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ({"temperature": 0.3}, hf.TemperatureLogitsWarper(0.3)),
        ({"temperature": 2.5}, hf.TemperatureLogitsWarper(2.5)),
        ({"top_k": 1}, hf.TopKLogitsWarper(1)),
        ({"top_k": 7}, hf.TopKLogitsWarper(7)),
        ({"top_k": 500}, hf.TopKLogitsWarper(500)),
        ({"top_p": 0.0}, hf.TopPLogitsWarper(0.0)),
        ({"top_p": 0.1}, hf.TopPLogitsWarper(0.1)),
        ({"top_p": 0.9}, hf.TopPLogitsWarper(0.9)),
        ({"top_p": 0.999}, hf.TopPLogitsWarper(0.999)),
        ({"min_p": 0.001}, hf.MinPLogitsWarper(0.001)),
        ({"min_p": 0.2}, hf.MinPLogitsWarper(0.2)),
        ({"min_p": 1.0}, hf.MinPLogitsWarper(1.0)),
        ({"repetition_penalty": 1.3}, hf.RepetitionPenaltyLogitsProcessor(1.3)),
        ({"repetition_penalty": 0.7}, hf.RepetitionPenaltyLogitsProcessor(0.7)),
    ],
)
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_each_filter_keeps_what_transformers_keeps(values, theirs, scale):
    for seed in range(5):
        expected = theirs(torch.tensor(SEEN), logits(scale, seed))
        assert_same_choice(filtered(sampler(**values), logits(scale, seed), SEEN), expected)


def test_filters_together_work_in_the_order_of_transformers():
    everything = Sampler(temperature=1.7, top_k=20, top_p=0.8, min_p=0.05, repetition_penalty=1.5)
    theirs = hf.LogitsProcessorList(
        [
            hf.RepetitionPenaltyLogitsProcessor(1.5),
            hf.TemperatureLogitsWarper(1.7),
            hf.TopKLogitsWarper(20),
            hf.TopPLogitsWarper(0.8),
            hf.MinPLogitsWarper(0.05),
        ]
    )
    for seed in range(20):
        expected = theirs(torch.tensor(SEEN), logits(seed=seed))
        assert_same_choice(filtered(everything, logits(seed=seed), SEEN), expected)


def test_penalty_divides_positive_logits_and_multiplies_negative_ones_once():
    row = torch.tensor([[4.0, -4.0, 4.0, -4.0, 0.0]])
    penalized = filtered(sampler(temperature=0, repetition_penalty=2.0), row, [[0, 1, 1, 0, 4]])
    assert penalized.tolist() == [[2.0, -8.0, 4.0, -4.0, 0.0]]
    assert row.tolist() == [[4.0, -4.0, 4.0, -4.0, 0.0]], "the model's logits are not the sampler's to change"


def test_penalty_counts_for_greedy_too():
    row = torch.tensor([[5.0, 4.0, 0.0]])
    assert sampler(temperature=0, repetition_penalty=2.0)(row, [[0]], [row_generator(0, 0)]).tolist() == [1]


def test_top_k_keeps_every_tie_with_the_last():
    assert kept(filtered(sampler(top_k=2), torch.tensor([[1.0, 3.0, 1.0, 0.0]]), [[]])) == [[0, 1, 2]]


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    row = torch.tensor([[0.1, 0.5, 0.1, 0.3]]).log()
    assert kept(filtered(sampler(top_p=0.45), row, [[]])) == [[1]]
    assert kept(filtered(sampler(top_p=0.75), row, [[]])) == [[1, 3]]
    assert len(kept(filtered(sampler(top_p=0.85), row, [[]]))[0]) == 3, "one of two ties is enough"


@pytest.mark.parametrize("scale", [0.1, 4.0])
def test_top_p_of_a_large_vocabulary_keeps_what_transformers_keeps(scale):
    wide = torch.randn(2, 5000, generator=torch.Generator().manual_seed(1)) * scale
    for top_p in (0.3, 0.6, 0.95):
        expected = hf.TopPLogitsWarper(top_p)(torch.tensor([[0], [0]]), wide)
        assert_same_choice(filtered(sampler(top_p=top_p), wide, [[], []]), expected)


def test_min_p_keeps_ties_of_the_likeliest():
    row = torch.tensor([[2.0, 1.9, 2.0, -5.0]])
    assert kept(filtered(sampler(min_p=1.0), row, [[]])) == [[0, 2]]


def test_everything_off_leaves_every_token():
    assert_same_choice(filtered(sampler(), logits(), SEEN), logits())


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-50, 1e-12, 1e-3])
def test_coldest_draw_is_the_likeliest_token(temperature):
    rows = logits(scale=50.0)
    generators = [row_generator(1, row) for row in range(3)]
    assert sampler(temperature=temperature)(rows, SEEN, generators).tolist() == rows.argmax(-1).tolist()


@pytest.mark.parametrize("values", [
    {"temperature": 1e-50}, {"temperature": 1e38}, {"repetition_penalty": 0.001}, {"repetition_penalty": 1000.0},
    {"temperature": 1e-50, "repetition_penalty": 0.001, "top_p": 1e-50, "min_p": 1e-50, "top_k": 1},
])  # fmt: skip
def test_extreme_values_still_give_probabilities(values):
    rows = torch.tensor([[1e30, -1e30, 0.0, 1e30], [0.0, 0.0, 0.0, 0.0], [-1e-30, 1e-30, -5.0, 5.0]])
    probabilities = filtered(sampler(**values), rows, [[0, 1, 2, 3]] * 3).softmax(dim=-1)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(3))


def test_draws_follow_the_probabilities():
    draws = 5000
    row = torch.tensor([0.0, 0.05, 0.15, 0.3, 0.5]).log()
    generators = [row_generator(3, index) for index in range(draws)]
    ids = sampler()(row.expand(draws, -1), [[]] * draws, generators)
    share = torch.bincount(ids, minlength=5) / draws
    deviation = (row.exp() * (1 - row.exp()) / draws).sqrt()
    assert ((share - row.exp()).abs() <= 4 * deviation).all()


def test_filtered_tokens_are_never_drawn():
    generators = [row_generator(0, row) for row in range(3)]
    chosen = sampler(temperature=5.0, top_k=3)
    allowed = kept(filtered(chosen, logits(), SEEN))
    for _ in range(200):
        assert all(new in row for new, row in zip(chosen(logits(), SEEN, generators).tolist(), allowed, strict=True))


def test_a_row_draws_the_same_whatever_its_neighbours():
    generators = [row_generator(9, row) for row in range(3)]
    together = [Sampler()(logits(1.0, seed), SEEN, generators).tolist() for seed in range(10)]
    alone = row_generator(9, 1)
    rows = [Sampler()(logits(1.0, seed)[1:2], SEEN[1:2], [alone]).tolist() for seed in range(10)]
    assert [row[1] for row in together] == [row[0] for row in rows]


def test_equal_logits_are_drawn_from_the_same_whatever_the_neighbours():
    """As a bf16 model gives them; a flat neighbour has more candidates."""
    peaked = (4 * torch.randn(50, 3000, generator=torch.Generator().manual_seed(3))).bfloat16().float()
    flat = torch.zeros(1, 3000)
    for row in peaked.split(1):
        alone = Sampler()(row, [[]], [row_generator(9, 0)])
        beside = Sampler()(torch.cat([row, flat]), [[], []], [row_generator(9, 0), row_generator(9, 1)])
        assert beside[0] == alone[0]


@pytest.mark.parametrize("bad", [[0.0, NAN, 1.0], [NAN] * 3, [-INF] * 3, [0.0, INF, 1.0]])
@pytest.mark.parametrize("chosen", [
    sampler(temperature=0), sampler(temperature=0, repetition_penalty=1.5), sampler(), sampler(top_k=2),
    sampler(top_p=0.9), sampler(min_p=0.1), Sampler(top_k=2, min_p=0.1, repetition_penalty=1.5),
])  # fmt: skip
def test_nothing_is_drawn_where_no_token_is_the_likeliest_and_the_neighbours_draw_on(chosen, bad):
    rows, certain = torch.tensor([[5.0, -INF, -INF], bad, [-INF, -INF, 5.0]]), [0, -1, 2]
    assert chosen(rows, [[0], [1], [2]], [row_generator(0, row) for row in range(3)]).tolist() == certain


def test_rows_and_seeds_have_randomness_of_their_own():
    first = {
        (seed, row): torch.rand(4, generator=row_generator(seed, row)).tolist()
        for seed in range(10)
        for row in range(10)
    }
    assert len({tuple(values) for values in first.values()}) == 100
    assert torch.rand(4, generator=row_generator(3, 4)).tolist() == first[3, 4]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", -0.1),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("min_p", 2),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", 1e-50),
        ("repetition_penalty", 1e38),
    ],
)
def test_value_out_of_range_is_refused_by_its_option_name(option, value):
    with pytest.raises(UsageError, match=f"^--{option.replace('_', '-')} "):
        Sampler(**{option: value})


def test_defaults_can_be_read_without_torch():
    script = "import sys; from gemmazero.inference.sampling import Sampler; Sampler(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
