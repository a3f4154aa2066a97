"""What the machine has used so far."""

import resource
import sys

import torch


def memory_bytes(device: torch.device) -> int:
    """Peak memory: of the GPU where there is one, else this process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
