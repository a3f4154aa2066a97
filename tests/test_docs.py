import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_command_reference_is_what_the_help_says() -> None:
    done = subprocess.run([sys.executable, DOCS / "commands.py"], capture_output=True, check=True, encoding="utf-8")
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == done.stdout, "make docs"
