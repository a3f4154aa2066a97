import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmazero.data.manifest_check import is_manifest

FILE = {"bytes": 8, "sha256": "0" * 64}
SPLIT = {"documents": 1, "tokens": 4, "text_bytes": 3}
GOOD: dict[str, Any] = {
    "format_version": 1,
    "source": "sample",
    "subset": None,
    "revision": None,
    "options": {"seed": 0, "tokenizer": "bytes"},
    "tokenizer": "bytes",
    "tokenizer_digest": "0" * 64,
    "vocab_size": 257,
    "end_id": 256,
    "dtype": "uint16",
    "round_trip": 1.0,
    "splits": {"train": SPLIT, "validation": SPLIT},
    "dropped_short": 0,
    "dropped_invalid": 0,
    "duplicates": 0,
    "validation_in_training": 0,
    "files": {"train-00000.bin": FILE, "tokenizer.json": FILE},
}
TEXTS = st.text("a./\0é", max_size=5)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def test_good_manifest_is_one() -> None:
    assert is_manifest(GOOD)


@pytest.mark.parametrize("key", GOOD)
def test_manifest_without_one_of_its_keys_is_none(key: str) -> None:
    assert not is_manifest({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hostile",), 1),
        (("source",), None),
        (("subset",), 7),
        (("vocab_size",), 2**24 + 1),
        (("vocab_size",), True),
        (("vocab_size",), 0),
        (("end_id",), 257),
        (("end_id",), -1),
        (("round_trip",), 1.5),
        (("round_trip",), float("nan")),
        (("round_trip",), True),
        (("dropped_short",), -1),
        (("dropped_invalid",), 1.0),
        (("duplicates",), None),
        (("validation_in_training",), -1),
        (("options",), None),
        (("options",), {"hostile": 1}),
        (("options",), {"seed": "0"}),
        (("splits",), {"train": SPLIT}),
        (("splits", "test"), SPLIT),
        (("splits", "train", "tokens"), 2**63),
        (("splits", "train", "tokens"), 0),
        (("splits", "train", "more"), 1),
        (("files",), []),
        (("files", "../x.bin"), FILE),
        (("files", "/x.bin"), FILE),
        (("files", ".."), FILE),
        (("files", "."), FILE),
        (("files", ""), FILE),
        (("files", "a\0.bin"), FILE),
        (("files", "x" * 256), FILE),
        (("files", "train-00000.bin"), None),
        (("files", "train-00000.bin", "bytes"), -1),
        (("files", "train-00000.bin", "sha256"), 7),
    ],
)
def test_manifest_with_something_else_is_none(path: tuple[str, ...], value: Any) -> None:
    record = copy.deepcopy(GOOD)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not is_manifest(record)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), ANYTHING))
def test_any_values_are_judged(changes: dict[str, Any]) -> None:
    assert is_manifest(GOOD | changes) in (True, False)
