import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemmazero.model.gemma import Gemma
from gemmazero.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_command_reference_is_what_the_help_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/commands.py"], capture_output=True, check=True, encoding="utf-8"
    )
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == done.stdout, "make docs"


def test_benchmarks_are_what_was_recorded() -> None:
    command = [sys.executable, ROOT / "benchmarks/tables.py"]
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert page == done.stdout, "python benchmarks/tables.py > docs/benchmarks.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!http|#)([^)#]+)", text)]
    named = [ROOT / name for name in re.findall(r"`((?:tests|docs|benchmarks|examples)/[\w/.-]+)`", text)]
    assert [str(path) for path in links + named if not path.exists()] == []


def test_preset_table_is_the_presets() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) M \| (.+) \|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [row[0] for row in rows] == list(PRESETS)
    for name, millions, rest in rows:
        preset = PRESETS[name]
        model = preset.model.with_vocabulary(1024, 1023) if name == "nano" else preset.model
        with torch.device("meta"):
            parameters = sum(weight.numel() for weight in Gemma(model).parameters())
        assert f"{parameters / 1e6:.1f}" == millions
        names = ("steps", "batch_size", "sequence_length", "learning_rate", "warmup_steps")
        assert [float(cell) for cell in rest.split(" | ")[1:]] == [preset.train[key] for key in names]


def test_options_that_the_readme_shows_exist() -> None:
    reference = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^(?:\$ )?gemmazero (\w+)(.*?)(?:  #.*)?$", README.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert {command for command, _ in shown} >= {"prepare", "train", "resume", "eval", "generate", "chat"}
    for command, rest in shown:
        section = reference.split(f"## gemmazero {command}\n")[1].split("\n## ")[0]
        for option in [word for word in shlex.split(rest) if word.startswith("--")]:
            assert f"`{option}" in section, f"gemmazero {command} {option}"
