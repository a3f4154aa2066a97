"""Tensors → a safetensors file, like any other file of ours."""

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


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
