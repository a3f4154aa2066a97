import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.errors import ConfigError
from gemmazero.json_file import DEEPEST_JSON, parse_json, read_json

TEXTS = st.text('aé😀"\\/\0\n\u2028', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_json_comes_back_as_it_was_written(value: object, ascii_alone: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_alone).encode()) == value


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()).map(lambda data: data[: len(data) // 2]))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except ValueError:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1, "b": 2, "a": 3}', '"a" is given twice'),
        (b'[{"c": {"b": 1, "b": 1}}]', '"b" is given twice'),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"1e999", "1e999 is not a finite number"),
        (b"9" * 5000, "4300 digits"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
        (b'"\xff"', "can't decode byte 0xff"),
        (b"[" * 1_000_000, "more than 64 within each other"),
        (b"[" * 65 + b"]" * 65, "more than 64 within each other"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64 within each other"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_readers_would_take_for_different_things_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_json(data)


def test_as_deep_as_the_limit_is_read() -> None:
    value = parse_json(b"[" * DEEPEST_JSON + b"]" * DEEPEST_JSON)
    depth = 0
    while value != []:
        (value,), depth = value, depth + 1
    assert depth == DEEPEST_JSON - 1


def test_whole_surrogate_pairs_and_byte_order_marks_are_read() -> None:
    assert parse_json(b'\xef\xbb\xbf"\\ud83d\\ude00"') == "😀"


@given(st.integers(min_value=-(10**400), max_value=10**400))
def test_numbers_are_exact(number: int) -> None:
    assert parse_json(str(number).encode()) == number


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_is_read_where_it_is_finite(number: float) -> None:
    text = json.dumps(number).encode()
    if math.isfinite(number):
        assert parse_json(text) == number
    else:
        with pytest.raises(ValueError, match="finite"):
            parse_json(text)


def test_file_beyond_the_limit_is_an_error_that_tells_it(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text("{" + " " * 100 + "}")
    assert read_json(tmp_path / "large.json") == {}
    with pytest.raises(ConfigError, match=r'cannot read ".*large.json": it has 102 bytes, and at most 50 are read'):
        read_json(tmp_path / "large.json", limit_bytes=50)


@pytest.mark.parametrize("text", ["[]", "null", '"a"', "5"])
def test_file_without_an_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match="does not hold a JSON object"):
        read_json(tmp_path / "a.json")


def test_device_without_an_end_is_not_read() -> None:
    with pytest.raises(ConfigError, match='cannot read "/dev/zero": not a regular file'):
        read_json(Path("/dev/zero"))
