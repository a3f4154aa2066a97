"""What a process that trains is doing, told by the functions that its stack holds."""

from types import CodeType, FrameType

BETWEEN, PREPARING_DATA = "between two of these", "preparing data"
OPENING, STARTING, RESUMING = "opening", "starting anew", "resuming"  # the first is one of the others
UNWATCHED = "python -m gemmazero, with nobody watching"
_PHASES = {  # a function → the phase that lasts while it runs, but for one that begins within it
    ("gemmazero/data/prepare.py", "preparing"): PREPARING_DATA,
    ("gemmazero/training/run.py", "Run.open"): OPENING,
    ("gemmazero/training/run.py", "Run.__init__"): OPENING,
    ("gemmazero/training/trainer.py", "Trainer._gradient"): "forward",
    ("torch/_tensor.py", "Tensor.backward"): "backward",
    ("gemmazero/training/trainer.py", "Trainer.apply"): "optimizer step",
    ("gemmazero/evaluation/perplexity.py", "evaluating"): "validation",
    ("gemmazero/storage/checkpoints.py", "Checkpoints.save"): "save",
    ("gemmazero/storage/checkpoints.py", "Checkpoints.name_best"): "best.json",
    ("gemmazero/storage/checkpoints.py", "Checkpoints.retain"): "retention",
    ("gemmazero/training/record.py", "Record.write"): "metrics.jsonl",
    ("gemmazero/training/record.py", "Record.draw"): "loss plot",
}
NAMES = (*dict.fromkeys(_PHASES.values()), BETWEEN, UNWATCHED)
ALL = tuple(one for name in NAMES for one in ((STARTING, RESUMING) if name == OPENING else (name,)))

_BY_NAME: dict[str, dict[str, str]] = {}
for (_file, _function), _phase in _PHASES.items():
    _BY_NAME.setdefault(_function, {})[_file] = _phase


def begun_by(code: CodeType) -> str | None:
    """The phase that begins with a call of ``code``."""
    files = _BY_NAME.get(code.co_qualname)  # nearly always none: this is asked at every call
    return next((phase for file, phase in files.items() if code.co_filename.endswith(file)), None) if files else None


def phase_of(frame: FrameType | None) -> str:
    """The phase that the innermost function of a stack belongs to."""
    while frame is not None:
        if phase := begun_by(frame.f_code):
            return phase
        frame = frame.f_back
    return BETWEEN
