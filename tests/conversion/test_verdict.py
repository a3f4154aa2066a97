import json
from dataclasses import replace
from pathlib import Path

from gemmazero.conversion.verdict import SAMPLE_TEXTS, Verdict

VERDICT = Verdict(
    folder=Path("out"), to="huggingface", dtype="fp32", logits_compared="this and that", sequences=2,
    sequence_length=37, longer_than_window=True, largest_logit_difference=1e-6, logit_tolerance=1e-5,
    tolerance_reason="rounding", next_tokens=74, different_next_tokens=0, wrong_next_tokens=0,
    largest_rounding_difference=0.0, tokenizers_compared="this and that", texts=9,
    mismatched_texts=0, trimmed_embeddings=0,
)  # fmt: skip


def test_verdict_is_ok_where_nothing_differs() -> None:
    assert VERDICT.ok
    assert replace(VERDICT, largest_logit_difference=1e-5).ok


def test_one_difference_is_enough() -> None:
    assert not replace(VERDICT, largest_logit_difference=1.1e-5).ok
    assert not replace(VERDICT, mismatched_texts=1).ok
    assert not replace(VERDICT, different_next_tokens=1, wrong_next_tokens=1).ok


def test_another_choice_within_the_tolerance_is_no_difference() -> None:
    assert replace(VERDICT, different_next_tokens=1).ok


def test_json_says_all_and_whether_it_is_ok() -> None:
    record = json.loads(json.dumps(VERDICT.to_json()))
    assert record.pop("ok") is True
    assert Verdict(**record | {"folder": Path(record["folder"])}) == VERDICT


def test_sample_texts_are_many_and_valid_unicode() -> None:
    assert len(set(SAMPLE_TEXTS)) == len(SAMPLE_TEXTS) > 200
    assert all(text.encode().decode() == text for text in SAMPLE_TEXTS)
    assert sum(not text.isascii() for text in SAMPLE_TEXTS) > 150
