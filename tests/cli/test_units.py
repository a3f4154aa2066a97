import pytest

from gemmazero.cli import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (59.94, "59.9s"), (59.96, "1m 00s"), (125, "2m 05s"), (3599.6, "1h 00m"), (11_400, "3h 10m")],
)
def test_durations_never_show_sixty(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (1.45e9, "1.4 GB")]
)
def test_sizes_are_decimal(count: float, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(("count", "text"), [(980, "980"), (1_310_000, "1.3M"), (15.1e9, "15.1B"), (2e15, "2,000.0T")])
def test_amounts_keep_one_decimal(count: float, text: str) -> None:
    assert units.amount(count) == text
