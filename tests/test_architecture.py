"""Which part may import which, which vendor belongs where, and how long a file may be: docs/architecture.md as data."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gemmazero

PACKAGE = Path(gemmazero.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 300

ORDER = (  # a part imports from those before its own group, and from itself
    {"errors", "regular_file", "hub_content"},
    {"huggingface_config", "setting", "duration", "hub_name", "json_file"},
    {"config", "presets"},
    {"run_config"},
    {"distributed", "runtime", "hub", "lock", "native_code"},
    {"folder", "hub_repo"},
    {"hub_model", "model", "data"},
    {"storage"},
    {"inference", "evaluation", "conversion"},
    {"training"},
    {"api"},
    {"cli"},
    {"__main__", "__init__"},
)
MAY_IMPORT_ONLY = {
    "training/loop.py": {"gemmazero.training.events"},
    "presets.py": {"gemmazero.config", "gemmazero.errors"},
    "huggingface_config.py": {"gemmazero.errors"},
    "setting.py": {"gemmazero.errors"},
    "duration.py": {"gemmazero.errors"},
    "regular_file.py": set(),
    "json_file.py": {"gemmazero.errors", "gemmazero.regular_file"},
    "config.py": {
        "gemmazero.duration",
        "gemmazero.errors",
        "gemmazero.hub_name",
        "gemmazero.huggingface_config",
        "gemmazero.json_file",
        "gemmazero.setting",
    },
    "runtime.py": {"gemmazero.config", "gemmazero.errors"},
    "lock.py": {"gemmazero.errors"},
    "native_code.py": {"gemmazero.errors"},
    "folder.py": {"gemmazero.errors", "gemmazero.lock"},
    "hub_name.py": set(),
    "hub_content.py": set(),
    "hub.py": {"gemmazero.errors", "gemmazero.hub_content"},
    "hub_repo.py": {"gemmazero.errors", "gemmazero.hub", "gemmazero.hub_content"},
    "hub_model.py": {
        "gemmazero.errors",
        "gemmazero.hub",
        "gemmazero.hub_name",
        "gemmazero.hub_repo",
        "gemmazero.json_file",
    },
}
TORCH = {"model", "training", "storage", "inference", "evaluation", "conversion", "runtime.py", "api.py"}
BATCHES = {"data/batch.py", "data/batches.py", "data/stream.py"}
VENDORS = {  # vendor: (where it may be imported, where it may be imported outside of a function)
    "typer": ({"cli"}, {"cli"}),
    "rich": ({"cli"}, {"cli"}),
    "click": ({"cli"}, {"cli"}),
    "torch": (TORCH | BATCHES, TORCH | BATCHES),
    "numpy": ({"data", "training/record.py"}, {"data", "training/record.py"}),
    "safetensors": ({"storage", "conversion"}, {"storage", "conversion"}),
    "huggingface_hub": ({"hub.py", "hub_repo.py", "hub_model.py"}, set()),
    "datasets": ({"data/hub_source.py", "data/hub_stream.py"}, set()),
    "pyarrow": ({"data/compression.py", "data/parquet_reader.py"}, set()),
    "orjson": ({"data/json_reader.py"}, {"data/json_reader.py"}),
    "tiktoken": ({"data/vocabulary.py"}, {"data/vocabulary.py"}),
    "tokenizers": ({"data/tokenizer.py", "data/vocabulary.py"}, {"data/tokenizer.py", "data/vocabulary.py"}),
    "bitsandbytes": ({"training/optimizer.py"}, set()),
    "matplotlib": ({"training/record.py"}, set()),
    "transformers": ({"conversion"}, set()),
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that ``path`` imports when it runs, and whether it does so when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(node) for part in ast.walk(tree) if isinstance(part, ast.FunctionDef) for node in ast.walk(part)}
    for part in ast.walk(tree):
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
            inside |= {id(node) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            if node.module == "gemmazero":
                yield from ((f"gemmazero.{alias.name}", id(node) not in inside) for alias in node.names)
            else:
                yield str(node.module), id(node) not in inside


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def rank(part: str) -> int:
    return next(index for index, group in enumerate(ORDER) if part in group)


def allowed(name: str, places: set[str]) -> bool:
    return name in places or name.split("/")[0] in places


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_part_imports_only_from_its_left_and_from_itself(path: Path) -> None:
    own = part_of(name_of(path))
    for module, _ in imports(path):
        if module.startswith("gemmazero."):
            other = module.split(".")[1]
            if other == "__version__":
                continue
            siblings = {own, other} == {"config", "presets"}
            assert other == own or rank(other) < rank(own) or siblings, module
            only = MAY_IMPORT_ONLY.get(name_of(path))
            assert only is None or module in only, f"{name_of(path)} imports {module}"


def test_within_training_only_the_run_its_start_its_mirror_and_the_guard_touch_storage() -> None:
    touching = {
        name_of(path)
        for path in PACKAGE.glob("training/*.py")
        for module, _ in imports(path)
        if module.startswith("gemmazero.storage")
    }
    assert touching == {f"training/{name}.py" for name in ("run", "starting", "mirroring", "guard")}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_vendor_is_imported_only_where_the_table_says(path: Path) -> None:
    for module, at_import in imports(path):
        vendor = module.split(".")[0]
        if vendor == "gemmazero" or vendor in sys.stdlib_module_names:
            continue
        anywhere, outside_functions = VENDORS[vendor]
        assert allowed(name_of(path), anywhere), f"{name_of(path)} imports {vendor}"
        assert not at_import or allowed(name_of(path), outside_functions), f"{name_of(path)} imports {vendor} at once"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_sub_package_inits_are_empty() -> None:
    assert [name_of(path) for path in PACKAGE.glob("*/__init__.py") if path.read_text()] == []


def test_no_file_is_a_drawer_of_odds_and_ends() -> None:
    assert {path.stem for path in FILES} & {"utils", "util", "common", "helpers", "misc"} == set()


def test_every_library_module_has_a_test_file() -> None:
    tests = {path.name for path in Path(__file__).parent.rglob("test_*.py")}
    without = {name_of(path) for path in FILES if f"test_{path.stem}.py" not in tests}
    assert without <= COVERED_ELSEWHERE, sorted(without - COVERED_ELSEWHERE)


COVERED_ELSEWHERE = {
    name_of(path) for path in PACKAGE.rglob("__init__.py")
} | {
    "__main__.py",  # test_journey.py
    "errors.py",  # each child where it is raised
    "setting.py",  # test_config.py, test_sampling.py, cli/test_options.py
    "data/events.py",  # test_prepare.py, test_assembly.py
    "training/events.py",  # test_loop.py, test_run.py
    "training/stop.py",  # test_run.py, test_api.py
    "training/starting.py",  # test_run.py, test_resume.py
    "training/throughput.py",  # test_trainer.py
    "storage/card.py",  # test_mirroring.py, as are the next four
    "storage/push.py",  # test_hub_repo.py
    "storage/remote_state.py",
    "storage/restore.py",
    "storage/snapshot.py",  # test_mirror.py
    "data/stream_source.py",  # test_streaming.py, test_hub_stream.py
    "data/sample_words.py",  # test_sample.py
    "data/sample_plots.py",  # test_sample.py
}  # fmt: skip
