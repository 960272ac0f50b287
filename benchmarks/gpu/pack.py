"""CIFAR-10 in parts that can travel one by one, and putting together those that have arrived.

    python benchmarks/gpu/pack.py cifar10.npz --out DIR [--parts 5]

The file has ``xtr``, ``ytr``, ``xte``, ``yte``: images uint8 (N, 32, 32, 3) and labels. Part i of P takes every P-th image from i on, so
that each part has all classes; none is larger than 44 MiB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEYS = ("xtr", "ytr", "xte", "yte")
NAME = "cifar10.npz"
LARGEST = 44 << 20
Arrays = dict[str, NDArray[Any]]


def read(path: Path) -> Arrays:
    with np.load(path) as file:
        missing = [key for key in KEYS if key not in file]
        if missing:
            raise SystemExit(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(KEYS)}")
        return {key: file[key] for key in KEYS}


def pack(source: Path, out: Path, parts: int) -> list[Path]:
    """Write the parts. Refuses parts that would be larger than may travel."""
    arrays = read(source)
    size = sum(array.nbytes for array in arrays.values()) / parts
    if size > LARGEST:
        raise SystemExit(f"{parts} parts would have {size / 2**20:.0f} MiB each, and may have {LARGEST >> 20}; give a larger --parts")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number in range(parts):
        path = out / f"cifar10.part{number + 1}of{parts}.npz"
        np.savez(path, **{key: array[number::parts] for key, array in arrays.items()})
        written.append(path)
    return written


def arrived(source: Path, folder: Path) -> tuple[int, int]:
    """Put what is there, a file or a folder of parts, together as ``folder/cifar10.npz``; training and test images in it, 0 for none."""
    files = [source] if source.is_file() else sorted(source.glob("cifar10*.npz"))
    if not files:
        return 0, 0
    found = [read(path) for path in files]
    joined = {key: np.concatenate([part[key] for part in found]) for key in KEYS}
    np.savez(folder / NAME, **joined)
    return len(joined["xtr"]), len(joined["xte"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=5)
    given = parser.parse_args()
    for path in pack(given.source, given.out, given.parts):
        sys.stdout.write(f"{path} {path.stat().st_size / 2**20:.1f} MiB\n")


if __name__ == "__main__":
    main()
