"""Hashes that say which weights a number belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.reading.outside import open_file

if TYPE_CHECKING:
    from torch import Tensor

# Large enough that the disk, not Python, sets the pace; small enough to be no memory at all.
_CHUNK_BYTES = 1 << 20


def file_sha256(path: str | Path) -> str:
    """sha256 (64 hex digits) of a file's bytes, read in chunks.

    Raises
    ------
    OSError
        The file cannot be read, or is a pipe or a device.
    """
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with open_file(path) as file:
        while count := file.readinto1(buffer):  # type: ignore[attr-defined]
            digest.update(view[:count])
    return digest.hexdigest()


def tensors_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """sha256 (64 hex digits) of a set of named tensors.

    It covers each tensor's name, dtype, shape and bytes, in the order of the names, and so does not depend on the file format,
    the order of the entries, the device, or how a tensor lies in memory. Any dtype that torch stores densely is allowed.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach()
        shape = ",".join(map(str, tensor.shape))
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{shape}\0".encode())
        # NumPy has no bfloat16 and no float8, so the bytes are taken as bytes; a view of uint8 needs at least one dimension.
        flat = tensor.cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
