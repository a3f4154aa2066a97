"""Deliberate bugs, each of which the harness must notice: ``python -m crash --bugs``."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gemmazero

SOURCE = Path(gemmazero.__file__).parent
FAILED = "FAILED: "  # what the line of a problem begins with
_KILLS = 12


@dataclass(frozen=True)
class Bug:
    """``before``, which stands in ``file`` once, replaced by ``after``; seen by kills in ``phases`` of ``variants``."""

    name: str
    file: str
    before: str
    after: str
    phases: str = "forward,metrics"
    variants: str = "fp32-adamw-accumulating-checkpointing"


BUGS = (
    Bug("the loss scale starts anew", "training/trainer.py",
        'self.precision.restart_scaler(record["scaler"])', "pass", variants="fp16-adamw8bit-checkpointing"),
    Bug("the data starts anew", "training/trainer.py",
        'self.batch, self.tokens = record["step"], record["batch"],', 'self.batch, self.tokens = record["step"], 0,'),
    Bug("the optimizer starts anew", "training/trainer.py",
        'self.optimizer.load_state_dict(tensors["optimizer"])', "pass", variants="bf16-adamw8bit-accumulating"),
    Bug("a checkpoint has its name before its manifest", "folder.py",
        "        temporary.mkdir(parents=is_continued, exist_ok=is_continued)\n        try:\n"
        "            yield temporary\n            sync_all(temporary)\n",
        "        (temporary if is_continued else final).mkdir(parents=is_continued, exist_ok=is_continued)\n"
        "        try:\n"
        "            yield temporary if is_continued else final\n"
        "            is_continued or final.rename(temporary)\n",
        phases="save"),
    Bug("a checkpoint is removed where it stands", "folder.py",
        "        folder.rename(temporary)\n        _remove(temporary)", "        _remove(folder)", phases="retention"),
    Bug("half-written checkpoints stay", "training/run.py", "recover_all(folder / CHECKPOINTS)", "pass",
        phases="retention"),
    Bug("metrics.jsonl is not cut back", "training/record.py",
        "_rewound(_read_lines(folder / METRICS), self._history)", "_read_lines(folder / METRICS)",
        phases="metrics,forward,loss plot"),
    Bug("a file is written in place", "folder.py",
        "            temporary.write_bytes(content.encode() if isinstance(content, str) else content)\n"
        "            _sync(temporary)\n"
        "            temporary.replace(path)\n",
        "            path.write_bytes(content.encode() if isinstance(content, str) else content)\n",
        phases="starting,best.json"),
)  # fmt: skip


def noticed_of_each() -> dict[str, list[str]]:
    """What the harness says of each bug; nothing where it does not notice it."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((bug.name for bug in BUGS), pool.map(noticed, BUGS), strict=True))


def noticed(bug: Bug) -> list[str]:
    """What the harness finds wrong with a copy of the source that has the bug."""
    with tempfile.TemporaryDirectory(prefix="crash-bug-") as folder:
        copy = Path(folder, "src", "gemmazero")
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        text = (copy / bug.file).read_text(encoding="utf-8")
        assert text.count(bug.before) == 1, f'"{bug.before}" does not stand once in {bug.file}'
        (copy / bug.file).write_text(text.replace(bug.before, bug.after), encoding="utf-8")
        path = os.pathsep.join([str(copy.parent), str(Path(__file__).parents[1])])
        environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
        command = [sys.executable, "-m", "crash", "--kills", str(_KILLS), "--processes", "1"]
        command += ["--variants", bug.variants, "--phases", bug.phases]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr, f"{bug.name}: the harness fell over: {done.stderr}"
        return [line for line in done.stdout.splitlines() if line.startswith(FAILED)]
