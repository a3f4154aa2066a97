from gemmazero.inference.pace import Pace, Stopwatch


def test_steady_rate_leaves_out_the_two_tokens_that_wait_for_something_else():
    pace = Pace(tokens=12, first_token_seconds=2.0, second_token_seconds=6.0, seconds=8.0)
    assert (pace.tokens_per_second, pace.steady_tokens_per_second) == (1.5, 5.0)


def test_fewer_than_three_tokens_have_no_steady_rate():
    nothing = Pace(0, 0.0, 0.0, 0.0)
    assert (nothing.tokens_per_second, nothing.steady_tokens_per_second) == (0.0, 0.0)
    assert Pace(1, 0.5, 0.5, 0.5).steady_tokens_per_second == 0.0
    assert Pace(2, 0.5, 0.7, 0.7).steady_tokens_per_second == 0.0


def test_stopwatch_stands_still_between_tokens():
    stopwatch = Stopwatch()
    assert stopwatch.pace() == Pace(0, 0.0, 0.0, 0.0)
    stopwatch.count()
    first = stopwatch.pace()
    assert first.tokens == 1
    assert 0 < first.first_token_seconds == first.seconds == stopwatch.pace().seconds
    stopwatch.count()
    assert stopwatch.pace().first_token_seconds == first.seconds < stopwatch.pace().seconds
    second = stopwatch.pace()
    assert second.second_token_seconds == second.seconds
    stopwatch.count()
    assert stopwatch.pace().second_token_seconds == second.seconds < stopwatch.pace().seconds
