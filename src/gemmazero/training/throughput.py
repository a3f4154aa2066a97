"""What the machine has used so far and has left, how fast it multiplies, and what of that a step needs."""

import os
import resource
import sys
import time
from pathlib import Path

import torch

from gemmazero.config import ModelConfig, TrainConfig
from gemmazero.training.precision import Precision

WORTH_MEASURING = 1e13  # FLOPs of a run: one of fewer ends in seconds
_CGROUP = Path("/sys/fs/cgroup")
_SMALLEST, _LARGEST = 256, 8192  # rows of the matrices that are multiplied
_SECONDS = 0.01  # that a product takes to be believed


def memory_bytes(device: torch.device) -> int:
    """Peak memory: of a GPU what torch took, with the gaps between its tensors; else this process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):  # getrusage would count the process that this one was forked from
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak(device: torch.device) -> None:
    """Let ``memory_bytes`` of a GPU begin with what is there now; a process's own peak stays."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take: of the GPU, else of the machine and its limits; None if unknown."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what this process holds and does not use is free, too
        return torch.cuda.mem_get_info(device)[0]
    free = [size for size in (_available(), _left_in_group(), _left_in_address_space()) if size is not None]
    return min(free, default=None)


def wait_for(device: torch.device) -> None:
    """Returns once all that the device was given to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def step_flops(model: ModelConfig, settings: TrainConfig) -> int:
    """Floating-point operations of an optimizer step's forward and backward pass, recomputation left out.

    6 for each token and weight that it is multiplied with, and 12 · H · K for each token and key that it sees in each
    layer: PaLM (arXiv 2204.02311), appendix B, but that only the keys a causal or sliding mask shows are counted. A
    looked-up embedding multiplies nothing; tied, it is counted once, as the output matrix.
    """
    length, window = settings.sequence_length, min(model.sliding_window, settings.sequence_length)
    looked_up = 0 if model.tie_word_embeddings else model.vocab_size * model.hidden_size
    seen = {
        "full_attention": length * (length + 1) // 2,
        "sliding_attention": window * (window + 1) // 2 + (length - window) * window,
    }
    attention = 12 * model.num_attention_heads * model.head_dim * sum(seen[kind] for kind in model.layer_types)
    return settings.batch_size * (6 * (model.parameters - looked_up) * length + attention)


def flops_ceiling(model: ModelConfig, settings: TrainConfig, device: torch.device) -> float:
    """What a second of this device can do for a run at most; 0 for one too small to be worth measuring.

    On a GPU the memory that it took does not count in ``memory_bytes`` afterwards, nor does what was there before.
    """
    if settings.steps * step_flops(model, settings) <= WORTH_MEASURING:
        return 0.0
    flops_per_second = matmul_flops_per_second(device, Precision(settings.precision, device))
    forget_peak(device)
    return flops_per_second


def matmul_flops_per_second(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second of one large product of square matrices, in the precision's dtype.

    The matrices grow until a product takes long enough to be timed, so a slow dtype does not take long.
    """
    best, size = 0.0, _SMALLEST
    while True:
        left, right = torch.randn(2, size, size, device=device, generator=torch.Generator(device).manual_seed(0))
        with precision.autocast():
            left, right = left @ right, right @ left  # in the narrow dtype now; and the machine is awake
        seconds = min(_seconds_to_multiply(left, right) for _ in range(3))
        best = max(best, 2 * size**3 / seconds)
        if seconds > _SECONDS or size == _LARGEST:
            return best
        size *= 2


def _seconds_to_multiply(left: torch.Tensor, right: torch.Tensor) -> float:
    wait_for(left.device)
    started = time.perf_counter()
    left @ right
    wait_for(left.device)
    return time.perf_counter() - started


def _available() -> int | None:
    """Of the machine's memory, as Linux counts it; elsewhere all of it."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _left_in_group() -> int | None:
    """Of a container's memory, but for the files that it keeps at hand and would let go; of cgroups, version 2."""
    limit, used = (_lines(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if not (limit and used and limit[0].isdigit() and used[0].isdigit()):
        return None
    files = [int(line.split()[1]) for line in _lines(_CGROUP / "memory.stat") if line.startswith("inactive_file ")]
    return max(0, int(limit[0]) - int(used[0]) + sum(files))


def _left_in_address_space() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines(Path("/proc/self/statm"))
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0].split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
