"""Tensors → safetensors files, like any other file of ours, none larger than can be sent anew without regret."""

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

LARGEST_FILE = 10**9  # bytes; a tensor that is larger alone is a file of its own
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def write_shards(tensors: Mapping[str, Tensor], folder: Path, stem: str) -> dict[str, str]:
    """Write ``tensors`` as ``stem.safetensors``, or as ``stem-00001-of-00002.safetensors`` … where that is too large.

    Returns the file that each is in. Raises OSError.
    """
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > LARGEST_FILE:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"{stem}{part}.safetensors"
        write_tensors(shard, folder / file)
        places |= dict.fromkeys(shard, file)
    return places


def stem_of(file: Path) -> str:
    """What ``write_shards`` was given as ``stem`` for this file."""
    return _SHARD.sub("", file.stem)


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write ``tensors``, copied to the CPU, by name; with the rights of any other new file. Raises OSError."""
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    rights = path.stat().st_mode
    try:
        save_file(owned, path, metadata={"format": "pt"})
    except SafetensorError as error:  # an OSError, but for its text: "… (os error 28)"
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else errno.EIO, str(error), str(path)) from error
    path.chmod(rights)  # safetensors lets nobody but the owner read it
