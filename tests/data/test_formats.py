from pathlib import Path

import pytest

from gemmazero.data.formats import format_of, stem_of


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("stories.jsonl", ".jsonl", "stories"),
        ("stories.JSONL.GZ", ".jsonl", "stories"),
        ("stories.v2.parquet", ".parquet", "stories.v2"),
        ("stories.v2.csv.zst", ".csv", "stories.v2"),
        ("train.bin", ".bin", "train"),
        ("archive.gz", "", "archive.gz"),
        ("archive.tar.gz", ".tar", "archive.tar.gz"),
        ("stories.txt.bz2", ".bz2", "stories.txt.bz2"),
        ("model-2.5", ".5", "model-2.5"),
        ("stories", "", "stories"),
        (".txt", "", ".txt"),
    ],
)
def test_endings_say_what_a_file_holds_and_belong_to_no_name(name: str, kind: str, stem: str) -> None:
    assert format_of(Path(name)) == kind
    assert stem_of(name) == stem
