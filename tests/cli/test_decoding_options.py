from gemmazero.cli.decoding_options import seed_or_another


def test_given_seed_is_kept_and_another_is_not_negative() -> None:
    assert seed_or_another(0) == 0
    assert seed_or_another(5) == 5
    assert len({seed_or_another(None) for _ in range(20)} - {None}) > 1
    assert min(seed_or_another(None) for _ in range(20)) >= 0
