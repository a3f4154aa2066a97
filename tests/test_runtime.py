import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemmazero.errors import UsageError
from gemmazero.runtime import (
    available_cores,
    choose_device,
    compiled,
    environment,
    environment_changes,
    require_memory,
    set_up,
    using_threads,
)


def test_float32_is_float32() -> None:
    """Not TF32, whatever the program around it has asked torch for."""
    torch.set_float32_matmul_precision("high")
    set_up(torch.get_num_threads())
    assert torch.get_float32_matmul_precision() == "highest"


def test_set_up_uses_the_threads_it_is_told() -> None:
    before = torch.get_num_threads()
    try:
        set_up(1)
        assert torch.get_num_threads() == 1
        set_up(0)
        assert torch.get_num_threads() == available_cores()
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process's cores can be limited on Linux alone")
def test_only_cores_that_the_process_may_run_on_are_counted() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from gemmazero.runtime import available_cores; print(available_cores())"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"), (True, True, "cuda")],
)
def test_auto_takes_the_best_device(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected


def test_threads_are_what_they_were_after_a_failure_too() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match=f"with {before + 1}"), using_threads(before + 1):
        raise RuntimeError(f"with {torch.get_num_threads()}")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_absent_device_is_refused_and_one_that_is_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f'no "{name}" device here') as raised:
        choose_device(name)  # type: ignore[arg-type]
    assert raised.value.hint == "--device cpu"


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="Linux alone tells of its memory there")
def test_more_memory_than_the_machine_has_is_refused() -> None:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    memory = int(line.split()[1]) * 1024
    require_memory(memory, "all of it")
    with pytest.raises(UsageError, match=r"the moon needs 50,000\.0 GB, this machine has "):
        require_memory(5 * 10**13, "the moon")


def test_a_gpu_is_asked_for_and_told_of_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: torch.device) -> str:
        raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "get_device_name", busy)
    assert environment(torch.device("cpu")).keys() == {"torch", "processor"}
    assert environment_changes({"gpu": "Tesla T4"}, torch.device("cpu")) == ()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    assert environment_changes({"gpu": "Tesla T4"}, torch.device("cuda")) == ("gpu: Tesla T4 → NVIDIA H200",)
    assert environment_changes({}, torch.device("cuda")) == ()


@pytest.mark.parametrize(
    ("asked", "spins"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(asked: dict[str, str], spins: str) -> None:
    program = "import gemmazero, os; gemmazero.load; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment | asked, text=True)
    assert output == f"{spins}\n"


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's compiler
def test_every_shape_is_compiled_however_many_there_are() -> None:
    from torch._dynamo.utils import counters

    flat = compiled(lambda x: x.view(-1))
    for count in range(1, 13):
        before = counters["stats"]["unique_graphs"]
        assert torch.equal(flat(torch.zeros(count, 2)), torch.zeros(2 * count))
        assert counters["stats"]["unique_graphs"] == before + 1
