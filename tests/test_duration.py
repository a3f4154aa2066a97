import pytest

from gemmazero.duration import seconds
from gemmazero.errors import UsageError


@pytest.mark.parametrize(
    ("duration", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("0.5s", 0.5), ("007m", 420)]
)
def test_durations_are_numbers_with_a_unit(duration: str, expected: float) -> None:
    assert seconds(duration, option="--max-time") == expected


@pytest.mark.parametrize(
    "duration",
    ["", "2", "h", "0s", "0.0h", "-1s", "2 h", "2H", "1h30m", "1e3s", ".5s", "inf", "nans", "9" * 10 + "s", "2s\n"],
)
def test_anything_else_is_a_usage_error_that_names_the_option(duration: str) -> None:
    with pytest.raises(UsageError, match="--max-time must be a time such as 90s, 15m or 2h"):
        seconds(duration, option="--max-time")
