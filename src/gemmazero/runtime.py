"""How this process uses the machine: threads, allocator, device; set here and nowhere else."""

import os
import platform
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemmazero.config import DeviceName
from gemmazero.errors import CompilationError, UsageError

if TYPE_CHECKING:
    import torch

_MOST_CODES = 4096  # of a process: more than anybody waits for
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def wait_politely() -> None:
    """Let CPU threads that wait for each other sleep after some microseconds; call it before torch is imported.

    As GNU OpenMP comes, a waiting thread spins for milliseconds. Beside another busy process that takes the core from
    the very thread that is waited for: two runs on two cores were a hundred times slower than one. An environment that
    says how to wait is left alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def set_up(threads: int) -> None:
    """Compute with ``threads`` CPU threads from now on, 0 for all cores, and keep freed memory.

    float32 is float32, on a GPU too: its tensor cores would round the factors to 10 bits (TF32). Who wants their speed
    takes bf16 or fp16, where all large products are theirs.
    """
    import torch

    torch.set_num_threads(threads or available_cores())
    torch.set_float32_matmul_precision("highest")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc keep what is freed; elsewhere nothing happens.

    Otherwise every step gives its activations back to the kernel and pays a page fault for each 4 KiB of them again,
    which costs as much as the arithmetic.
    """
    if platform.libc_ver()[0] == "glibc":
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, ctypes.c_int(2**31 - 1))
        libc.mallopt(_M_TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """In here, compute with ``count`` CPU threads; a change takes less than a microsecond."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_memory(needed_bytes: int, what: str) -> None:
    """Raises UsageError where all of the machine's memory is less than ``what`` needs; unknown memory suffices."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return
    if needed_bytes > memory:
        raise UsageError(
            f"not enough memory: {what} needs {needed_bytes / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB",
            "take a smaller model",
        )


def compiled(function: Callable[..., Any], *, mode: str | None = None) -> Callable[..., Any]:
    """``function`` as machine code, which each shape has its own of, made at its first call.

    One code for any shape would round differently, and come into use in the middle of a run: after another number of
    steps in a run that goes on than in the run that was never stopped. After 8 of them torch would take the function as
    it is written from then on, without a word.
    """
    import torch
    from torch._dynamo import config

    config.recompile_limit = config.accumulated_recompile_limit = _MOST_CODES
    config.fail_on_recompile_limit_hit = True
    # That float32 is float32 on a GPU, too, is meant: ``set_up``.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
    return torch.compile(function, dynamic=False, mode=mode)


@contextmanager
def compiling() -> Iterator[None]:
    """Where code may be compiled: no wish to stop reaches the compiler, as Ctrl-C does all programs of a terminal.

    This thread does not hear it either: another one does, or this one at the end.

    Raises CompilationError where something cannot be compiled.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            raise
        reason = str(error).partition("\n")[0]
        raise CompilationError(
            f"cannot compile: {reason}",
            "install g++, for a GPU also Triton; --no-compile goes on without, rounded otherwise",
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(device: "torch.device") -> dict[str, str]:
    """What decides a result's rounding on ``device`` beside a run's settings: torch's version, processor, GPU."""
    import torch

    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    names = [line.partition(":")[2].strip() for line in _cpu_facts() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"torch": torch.__version__, "processor": processor, **gpu}


def environment_changes(before: object, device: "torch.device") -> tuple[str, ...]:
    """What is not as in ``before``, an ``environment`` of another time: "torch: 2.11.0 → 2.13.0"."""
    known, present = before if isinstance(before, dict) else {}, environment(device)
    return tuple(f"{name}: {known[name]} → {now}" for name, now in present.items() if known.get(name, now) != now)


def choose_device(name: DeviceName) -> "torch.device":
    """The device called ``name``; ``auto`` takes the best there is. Raises UsageError where it is not there."""
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in present.items() if there))
    if not present.get(name):
        raise UsageError(f'no "{name}" device here', f"--device {choose_device('auto').type}")
    return torch.device(name)


def _cpu_facts() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
