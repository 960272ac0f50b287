"""``digits``: scikit-learn's 8x8 handwritten digits, real images that need no download."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.data.base import ArrayImages, Data
from zoo.data.levels import make_levels

NAME = "digits"
SIDE = 8
CLASSES = tuple(str(digit) for digit in range(10))
_MAX_GREY = 16
# Of the images of each class, in scikit-learn's order, the last of every four is for testing.
_TEST_EVERY = 4


def open_digits(spec: str) -> Data:
    """1,797 digits as RGB (grey levels 0..16 spread over 0..255), split by class and position into 1,352 to train on and 445 to test on."""
    return Data(
        spec,
        NAME,
        splits={split: partial(_split, split) for split in ("train", "test")},
        roles={"pretrain": "train", "train": "train", "test": "test"},
        image_size=SIDE,
    )


def _split(split: str) -> ArrayImages:
    # Only this data set needs scikit-learn, which takes a second to import.
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    position = np.empty(len(labels), dtype=np.int64)
    for digit in range(len(CLASSES)):
        members = np.flatnonzero(labels == digit)
        position[members] = np.arange(len(members))
    chosen = np.flatnonzero((position % _TEST_EVERY == _TEST_EVERY - 1) == (split == "test"))
    grey = np.rint(digits.images[chosen] * (255 / _MAX_GREY)).astype(np.uint8)
    return ArrayImages(NAME, split, np.repeat(grey[..., None], 3, axis=3), make_levels(labels[chosen], CLASSES))
