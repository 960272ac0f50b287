"""``fashion-mnist:ROOT``: Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747), 28x28 grey."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import ArrayImages, Data
from zoo.data.files import nested_root
from zoo.data.hierarchy import read_groupings
from zoo.data.levels import Grouping, checked_labels, make_levels
from zoo.data.sets.torchvision_sets import DOWNLOAD
from zoo.errors import UserError

NAME = "fashion-mnist"
FOLDER = "FashionMNIST/raw"
SIDE = 28
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8


def open_fashion_mnist(spec: str, root: Path) -> Data:
    """Fashion-MNIST from its four idx files (``train-images-idx3-ubyte`` and so on, plain or ``.gz``), in ROOT or torchvision's
    ``FashionMNIST/raw`` inside it; grey becomes RGB.

    Raises
    ------
    UserError
        A missing or damaged file.
    """
    folder = nested_root(root, FOLDER)
    for prefix in _PREFIX.values():
        _find(folder, f"{prefix}-images-idx3-ubyte")
    groupings = read_groupings(root, CLASSES)
    return Data(
        spec,
        NAME,
        splits={split: partial(_split, folder, split, groupings) for split in _PREFIX},
        roles={"pretrain": "train", "train": "train", "test": "test"},
        image_size=SIDE,
        root=root,
    )


def _split(folder: Path, split: str, groupings: tuple[Grouping, ...]) -> ArrayImages:
    path = _find(folder, f"{_PREFIX[split]}-images-idx3-ubyte")
    grey = read_idx(path)
    if grey.shape[1:] != (SIDE, SIDE):
        raise UserError(f"file {path} must hold images of {SIDE}x{SIDE} pixels, not an array {grey.shape}")
    label_path = _find(folder, f"{_PREFIX[split]}-labels-idx1-ubyte")
    labels = checked_labels(read_idx(label_path), len(grey), len(CLASSES), str(label_path))
    return ArrayImages(NAME, split, np.repeat(grey[..., None], 3, axis=3), make_levels(labels, CLASSES, groupings))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an idx file, plain or gzipped: two zero bytes, type, number of axes, their lengths, values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"file {path} cannot be read ({error}); get it again") from error
    axes = data[3] if len(data) >= 4 else 0
    start = 4 + 4 * axes
    shape = tuple(int(length) for length in np.frombuffer(data[4:start], dtype=">u4")) if len(data) >= start else ()
    if len(data) < 4 or data[:3] != bytes([0, 0, _UNSIGNED_BYTE]) or len(shape) != axes or len(data) - start != np.prod(shape):
        raise UserError(f"file {path} is no complete idx file of unsigned bytes; get it again")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"file {folder / name} (or {name}.gz) is missing; {DOWNLOAD}")
