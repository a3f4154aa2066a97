"""The kinds of files that documents are read from, by the ending of their names."""

from pathlib import Path

from gemmazero.data.compression import COMPRESSIONS
from gemmazero.data.csv_reader import read_csv
from gemmazero.data.documents import Reader
from gemmazero.data.json_reader import read_json, read_json_lines
from gemmazero.data.parquet_reader import read_parquet
from gemmazero.data.text_reader import read_text

PARQUET, TOKENS = ".parquet", ".bin"
TEXT = (".txt", ".md")
READERS: dict[str, Reader] = {
    **dict.fromkeys(TEXT, read_text),
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    PARQUET: read_parquet,
}
READABLE = f"{', '.join(sorted(READERS))}, each also with {' or '.join(COMPRESSIONS)} behind it"


def format_of(path: Path) -> str:
    """The ending that says what a file holds, in lower case, without that of a compression; empty where it has none."""
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings else ""


def stem_of(name: str) -> str:
    """``name`` without the endings of what is read: ``stories.jsonl.gz`` → ``stories``."""
    path = Path(name)
    if format_of(path) not in (*READERS, TOKENS):
        return name
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSIONS else path.stem
