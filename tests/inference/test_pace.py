from gemmazero.inference.pace import Pace, Stopwatch


def test_steady_rate_leaves_the_first_token_out():
    pace = Pace(tokens=11, first_token_seconds=2.0, seconds=4.0)
    assert (pace.tokens_per_second, pace.steady_tokens_per_second) == (2.75, 5.0)


def test_no_token_and_a_single_one_have_no_steady_rate():
    assert (Pace(0, 0.0, 0.0).tokens_per_second, Pace(0, 0.0, 0.0).steady_tokens_per_second) == (0.0, 0.0)
    assert Pace(1, 0.5, 0.5).steady_tokens_per_second == 0.0


def test_stopwatch_stands_still_between_tokens():
    stopwatch = Stopwatch()
    assert stopwatch.pace() == Pace(0, 0.0, 0.0)
    stopwatch.count()
    first = stopwatch.pace()
    assert first.tokens == 1
    assert 0 < first.first_token_seconds == first.seconds == stopwatch.pace().seconds
    stopwatch.count()
    assert stopwatch.pace().first_token_seconds == first.seconds < stopwatch.pace().seconds
