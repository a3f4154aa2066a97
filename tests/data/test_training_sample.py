import random

from gemmazero.data.training_sample import TrainingSample

TEXTS = [f"{number} " * (number % 50 + 1) for number in range(2000)]


def chosen(texts: list[str], budget: int, seed: int = 0) -> list[str]:
    sample = TrainingSample(seed, budget)
    for text in texts:
        sample.add(text)
    found = list(sample.texts())
    assert sample.text_bytes == sum(len(text.encode()) for text in found)
    return found


def test_all_is_taken_that_fits() -> None:
    assert sorted(chosen(TEXTS, 10**6)) == sorted(TEXTS)


def test_sample_fills_its_budget_and_never_exceeds_it() -> None:
    for budget in (3000, 10_000, 100_000):
        size = sum(map(len, chosen(TEXTS, budget)))
        assert budget - max(map(len, TEXTS)) <= size <= budget


def test_order_of_the_documents_decides_nothing_and_the_seed_does() -> None:
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    assert chosen(TEXTS, 10_000) == chosen(shuffled, 10_000) != chosen(TEXTS, 10_000, seed=1)


def test_every_part_of_a_source_is_sampled_alike() -> None:
    places = [TEXTS.index(text) for text in chosen(TEXTS, 40_000)]
    shares = [sum(start <= place < start + 500 for place in places) / len(places) for start in range(0, 2000, 500)]
    assert all(0.15 < share < 0.35 for share in shares)


def test_pieces_of_a_very_long_document_are_sampled_from_all_of_it() -> None:
    text = "".join(chr(ord("a") + number) * 2**20 for number in range(16)) + "é"
    pieces = chosen([text], 6 * 2**20)
    assert 5 <= len(pieces) <= 7
    assert set("".join(pieces)) != set("abcdef")
