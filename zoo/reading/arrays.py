"""Files of NumPy arrays, kept by us or by others: read without pickles, without more memory than they have bytes, and checked."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zoo.errors import first_line
from zoo.reading.outside import open_file

# NumPy packs by deflate, which makes zeros a thousand times smaller; kept arrays are not like that.
_MOST_EXPANSION, _SMALL = 64, 64 << 20
_MOST_ENTRIES = 1_000


class ArrayFileError(ValueError):
    """Why a file gives no arrays, in one line."""


def map_array(path: Path) -> NDArray[Any]:
    """The array in a ``.npy`` file, as pages of it that can be written to without changing it.

    Raises OSError, and ArrayFileError for what is no such file: NumPy itself raises nearly anything for a header that is damaged.
    """
    with open_file(path) as file:
        _check_head(file, path.stat().st_size)
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:
        raise ArrayFileError(first_line(error)) from error
    return found


def read_arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    """The arrays of these names in a ``.npz`` file.

    Raises OSError, KeyError for a name that is not there, and ArrayFileError for what is no such file, or far larger inside than it is.
    """
    found = []
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            size = path.stat().st_size
            if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > _MOST_EXPANSION * size + _SMALL:
                raise ArrayFileError("what is packed in it is far larger than it is")
            known = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            for name in names:
                with archive.open(known[name]) as inner:
                    _check_head(inner, known[name].file_size)  # type: ignore[arg-type]
                    inner.seek(0)
                    found.append(np.lib.format.read_array(inner, allow_pickle=False))
    except (OSError, KeyError, ArrayFileError):
        raise
    except Exception as error:
        raise ArrayFileError(first_line(error)) from error
    return found


def _check_head(file: BinaryIO, size: int) -> None:
    """Raise ArrayFileError where a ``.npy`` file says that it holds more than ``size`` bytes, or holds objects."""
    try:
        version = np.lib.format.read_magic(file)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_head(file)
    except Exception as error:
        raise ArrayFileError(first_line(error)) from error
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > size:
        raise ArrayFileError(f"it is said to hold {_shape(shape)} of {dtype}, and has {size} bytes")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:8])) or "one"
