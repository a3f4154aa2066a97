from gemmazero.cli.decoding_options import measured, seed_or_another
from gemmazero.inference.pace import Pace


def test_given_seed_is_kept_and_another_is_not_negative() -> None:
    assert seed_or_another(0) == 0
    assert seed_or_another(5) == 5
    assert len({seed_or_another(None) for _ in range(20)} - {None}) > 1
    assert min(seed_or_another(None) for _ in range(20)) >= 0


def test_speed_is_told_with_the_first_tokens_apart_from_the_others() -> None:
    told = measured(Pace(tokens=12, first_token_seconds=2.0, second_token_seconds=2.5, seconds=4.5))
    assert told == "12 tokens in 4.5s, 2.7 tokens/s: the first after 2.00 s, then 5.0 tokens/s"
    assert "the first" not in measured(Pace(2, 0.5, 0.6, 0.6))
