"""What a source on this machine gives, as a list."""

import json
from pathlib import Path
from typing import Any

from gemmazero.config import PrepareConfig
from gemmazero.data.sources import open_source


def training(path: Path, **options: Any) -> list[str | None]:
    """The documents of the training split."""
    return list(open_source(str(path), PrepareConfig(**options)).load().training())


def json_lines(path: Path, texts: list[str]) -> Path:
    """A file of JSON Lines with one more column."""
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts), encoding="utf-8")
    return path
