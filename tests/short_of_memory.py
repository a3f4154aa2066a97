"""A run in a process whose memory is limited: python short_of_memory.py MEGABYTES PRESET DATA RUN [SETTING=NUMBER …]

It prints the run's last step; or, where memory was refused, the error's message and hint, a line each.
"""

import importlib
import resource
import sys
from pathlib import Path

import torch

import gemmazero
from gemmazero.errors import MemoryShortageError
from gemmazero.runtime import wait_politely

PAGE = 4096


def main() -> None:
    megabytes, preset, data, run, *settings = sys.argv[1:]
    wait_politely()
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True)  # it imports much, which is not what is limited
    importlib.import_module("matplotlib.figure")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    limit = taken + int(megabytes) * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    numbers = {name: int(number) for name, number in (setting.split("=") for setting in settings)}
    training = gemmazero.train(
        preset=preset, data=data, out=run, steps=2, batch_size=64, sequence_length=512, precision="fp32", threads=1,
        device="cpu", validation_tokens=512, **numbers,
    )  # fmt: skip
    try:
        print(training.run().step)
    except MemoryShortageError as error:
        print(error.message, error.hint, sep="\n")


if __name__ == "__main__":
    main()
