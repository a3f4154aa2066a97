"""All cases."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hostile.case import Case
from hostile.config_cases import config_cases
from hostile.data_cases import data_cases
from hostile.json_cases import json_cases
from hostile.run_cases import run_cases
from hostile.source_cases import source_cases
from hostile.tensor_cases import tensor_cases
from hostile.text_cases import text_cases
from hostile.tokenizer_cases import tokenizer_cases

CORPUS: tuple[Case, ...] = tuple(
    case
    for cases in (
        json_cases,
        config_cases,
        tokenizer_cases,
        tensor_cases,
        data_cases,
        text_cases,
        source_cases,
        run_cases,
    )
    for case in cases()
)


def sampled(count: int, seed: int) -> list[Case]:
    """So many cases, of each entry and file some."""
    cases = list(CORPUS)
    random.Random(seed).shuffle(cases)
    rank: Counter[tuple[str, str]] = Counter()
    ranked = []
    for case in cases:
        rank[case.entry, case.file] += 1
        ranked.append((rank[case.entry, case.file], len(ranked), case))
    return [case for _, _, case in sorted(ranked, key=lambda one: one[:2])[:count]]


def controls() -> list[Case]:
    """The good input that each entry is given, as it is: were it refused, no other refusal would mean a thing."""
    firsts = {(case.entry, case.part): case for case in reversed(CORPUS)}
    return [replace(case, name="as it is", spoil=Path.stat) for case in firsts.values()]
