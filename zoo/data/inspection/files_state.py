"""Which files a split is made of, and in what state: by their names, sizes and times, without reading any."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import FileImages

MISSING = -1


@dataclass(frozen=True)
class FilesState:
    """The files of N images.

    Attributes
    ----------
    names
        Of each: its path, and its name inside a shard after a colon.
    sizes, times
        int64 (N,): bytes of the file (of the whole shard) and time of its last change in nanoseconds; MISSING for one that is not there.
    """

    names: list[str]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, images: FileImages) -> FilesState:
        """The state of a split's files now."""
        names: list[str] = []
        states: list[tuple[int, int]] = []
        shards: dict[str, tuple[int, int]] = {}
        for path, member in images.entries.names():
            if not member:
                names.append(path)
                states.append(_state(path))
                continue
            if path not in shards:
                shards[path] = _state(path)
            names.append(f"{path}:{member}")
            states.append(shards[path])
        both = np.array(states, dtype=np.int64).reshape(-1, 2)
        return cls(names, both[:, 0].copy(), both[:, 1].copy())

    def text(self) -> bytes:
        """The names as bytes, one after another."""
        return "\0".join(self.names).encode(errors="surrogateescape")

    def digest(self) -> str:
        """sha256 over names, sizes, times and their order."""
        digest = hashlib.sha256(self.text())
        digest.update(self.sizes.astype("<i8").tobytes())
        digest.update(self.times.astype("<i8").tobytes())
        return digest.hexdigest()


def _state(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return MISSING, MISSING
    return found.st_size, found.st_mtime_ns
