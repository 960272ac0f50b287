"""Three classes that a small network learns in some epochs."""

from __future__ import annotations

import numpy as np

from zoo.data import ArrayImages, Data, Level

NAMES = ("dark", "light", "red")


def split(name: str, count: int, seed: int) -> ArrayImages:
    """Noise images of three easy classes, by brightness and colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centre = np.array([[60, 60, 60], [190, 190, 190], [200, 60, 60]])[labels]
    pixels = np.clip(centre[:, None, None] + rng.normal(0, 40, (count, 16, 16, 3)), 0, 255).astype(np.uint8)
    return ArrayImages("easy", name, pixels, {"class": Level(labels.astype(np.int64), NAMES)})


def easy_data(train: int = 60) -> Data:
    splits = {"train": split("train", train, 0), "test": split("test", 31, 1)}
    return Data(
        "easy",
        "easy",
        splits={name: (lambda images=images: images) for name, images in splits.items()},
        roles={"pretrain": "train", "train": "train", "test": "test"},
        image_size=16,
    )
