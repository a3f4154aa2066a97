"""The results of a benchmark as JSON, with what they were measured on; python benchmarks/tables.py makes tables."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("gemmazero", "torch", "transformers", "tiktoken", "bitsandbytes", "llama-cpp-python")


def write_results(name: str, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Path:
    """``results/NAME.json``: the rows of a table, the settings they share, the date, the machine and the versions."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{name}.json"
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    file.write_text(json.dumps(record, indent=2) + "\n")
    return file


def machine() -> dict[str, Any]:
    """The processor, what of it torch may use, the graphics card, and how busy the machine is."""
    import torch

    from gemmazero.runtime import available_cores, environment

    return {
        "processor": environment(torch.device("cpu"))["processor"],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
