import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.data.seen import DIGEST_BYTES, Digests, Seen


def digests(numbers: list[int]) -> Digests:
    return np.array([number.to_bytes(DIGEST_BYTES, "big") for number in numbers], f"S{DIGEST_BYTES}")


NUMBERS = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 256**DIGEST_BYTES - 1)), max_size=60)


@given(st.lists(NUMBERS, max_size=12))
def test_it_is_a_set_that_knows_the_first_of_equal_ones(batches: list[list[int]]) -> None:
    seen, known = Seen(), set[int]()
    for batch in batches:
        before = seen.holds(digests(batch)).tolist()
        assert before == [number in known for number in batch]
        assert seen.add(digests(batch)).tolist() == [
            number not in known and number not in batch[:place] for place, number in enumerate(batch)
        ]
        known |= set(batch)
    assert len(seen) == len(known)


def test_digests_that_end_in_zeros_are_told_apart() -> None:
    whole = [256**power for power in range(DIGEST_BYTES)]
    seen = Seen()
    assert seen.add(digests(whole)).all()
    assert not seen.holds(digests([0])).any()


@pytest.mark.parametrize("batch", [700, 40_000])
def test_many_digests_in_any_order_are_all_kept(batch: int) -> None:
    chance = random.Random(batch)
    numbers = [chance.getrandbits(96) for _ in range(200_000)]
    seen = Seen()
    for start in range(0, len(numbers), batch):
        assert seen.add(digests(numbers[start : start + batch])).all()
    assert len(seen) == len(numbers)
    for start in range(0, len(numbers), batch):
        assert seen.holds(digests(numbers[start : start + batch])).all()
    assert not seen.add(digests(numbers[:1000])).any()
    assert not seen.holds(digests([chance.getrandbits(96) for _ in range(1000)])).any()


def test_a_digest_costs_at_most_16_bytes_at_any_moment() -> None:
    generator, seen = np.random.default_rng(0), Seen()
    batch = 4096
    fixed = 1_000_000  # of a batch and a stretch that is merged
    tracemalloc.start()
    try:
        for number in range(1, 400):
            seen.add(np.frombuffer(generator.bytes(batch * DIGEST_BYTES), f"S{DIGEST_BYTES}"))
            _, peak = tracemalloc.get_traced_memory()
            assert peak <= 16 * number * batch + fixed
    finally:
        tracemalloc.stop()
