"""``stl10:ROOT``: STL-10 (Coates, Ng and Lee, "An analysis of single-layer networks in unsupervised feature learning", 2011)."""

from __future__ import annotations

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

NAME = "stl10"
FOLDER = "stl10_binary"
SIDE = 96
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
MEAN = (0.4406, 0.4273, 0.3858)
STD = (0.2312, 0.2265, 0.2237)
TRAIN, TEST, UNLABELED = "train", "test", "unlabeled"
PRETRAIN = f"{TRAIN}+{UNLABELED}"
_IMAGE_BYTES = 3 * SIDE * SIDE
# Images turned at a time, so that the 100,000 unlabelled ones never stand in memory twice.
_CHUNK = 1000


def open_stl10(spec: str, root: Path) -> Data:
    """STL-10 from its official binary files, in ROOT or in ``stl10_binary`` inside it.

    ``train_X.bin``, ``train_y.bin``, ``test_X.bin``, ``test_y.bin`` and, for pre-training, ``unlabeled_X.bin``. The images to
    pre-train on are the training images followed by the unlabelled ones, without labels. The ten folds are not used.

    Raises
    ------
    UserError
        A missing file, or one whose number of bytes or labels does not fit.
    """
    folder = nested_root(root, FOLDER)
    _existing(folder / f"{TRAIN}_X.bin")
    groupings = read_groupings(root, CLASSES)
    return Data(
        spec,
        NAME,
        splits={
            TRAIN: partial(_labelled, folder, TRAIN, groupings),
            TEST: partial(_labelled, folder, TEST, groupings),
            UNLABELED: partial(_unlabelled, folder, UNLABELED, (UNLABELED,)),
            PRETRAIN: partial(_unlabelled, folder, PRETRAIN, (TRAIN, UNLABELED)),
        },
        roles={"pretrain": PRETRAIN, "train": TRAIN, "test": TEST},
        mean=MEAN,
        std=STD,
        image_size=SIDE,
        root=root,
    )


def _labelled(folder: Path, split: str, groupings: tuple[Grouping, ...]) -> ArrayImages:
    pixels = _read_pixels([folder / f"{split}_X.bin"])
    path = _existing(folder / f"{split}_y.bin")
    # Labels count from 1.
    labels = checked_labels(np.fromfile(path, dtype=np.uint8).astype(np.int64) - 1, len(pixels), len(CLASSES), f"{path} (less one)")
    return ArrayImages(NAME, split, pixels, make_levels(labels, CLASSES, groupings))


def _unlabelled(folder: Path, name: str, parts: tuple[str, ...]) -> ArrayImages:
    return ArrayImages(NAME, name, _read_pixels([folder / f"{part}_X.bin" for part in parts]), {})


def _read_pixels(paths: list[Path]) -> NDArray[np.uint8]:
    """uint8 (N, 96, 96, 3) of all files in turn. A file holds N images of a red, a green and a blue plane, each column by column."""
    planes = [_planes(path) for path in paths]
    pixels: NDArray[np.uint8] = np.empty((sum(map(len, planes)), SIDE, SIDE, 3), dtype=np.uint8)
    start = 0
    for part in planes:
        for first in range(0, len(part), _CHUNK):
            chunk = part[first : first + _CHUNK]
            pixels[start : start + len(chunk)] = chunk.transpose(0, 3, 2, 1)
            start += len(chunk)
    return pixels


def _planes(path: Path) -> NDArray[np.uint8]:
    """The file as uint8 (N, colour, column, row), mapped rather than read."""
    size = _existing(path).stat().st_size
    if size == 0 or size % _IMAGE_BYTES:
        raise UserError(f"file {path} has {size} bytes, which is no multiple of {_IMAGE_BYTES} (one image); it is damaged, get it again")
    return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, SIDE, SIDE)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"file {path} is missing; STL-10 is read from the files of stl10_binary.tar.gz; {DOWNLOAD}")
    return path
