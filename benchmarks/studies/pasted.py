"""Images for the study of ContrastiveCrop: objects of CIFAR-10 pasted into larger, blurred photographs, with their true boxes.

An image has 64 pixels a side. The background is a square of a photograph, blurred, so that no other object can be seen in it; the object is
one image of CIFAR-10, enlarged or made smaller to 24 to 40 pixels, at a place drawn uniformly. The label is the object's.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from zoo.data import ArrayImages, Data, Level, Role, open_data
from zoo.data.images.decode import decode_rgb
from zoo.data.registry import _OPENERS
from zoo.data.sets.cifar import CIFAR10

NAME = "pasted"
SIDE = 64
SMALLEST, LARGEST = 24, 40
# Standard deviation in pixels of a background of 64.
BLUR = 2.0
BOXES = "boxes"


def paste(objects: NDArray[np.uint8], backgrounds: NDArray[np.uint8], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Objects uint8 (N, h, w, 3) in backgrounds uint8 (M, 64, 64, 3), which are drawn, flipped and turned at random.

    Returns images uint8 (N, 64, 64, 3) and boxes float32 (N, 4): (h0, w0, h1, w1) in shares of the image.
    """
    draws = np.random.default_rng(seed)
    images = np.empty((len(objects), SIDE, SIDE, 3), np.uint8)
    boxes = np.empty((len(objects), 4), np.float32)
    for row, pixels in enumerate(objects):
        canvas = np.rot90(backgrounds[draws.integers(len(backgrounds))], draws.integers(4))
        images[row] = canvas[:, ::-1] if draws.integers(2) else canvas
        side = int(draws.integers(SMALLEST, LARGEST + 1))
        top, left = draws.integers(SIDE - side + 1, size=2)
        images[row, top : top + side, left : left + side] = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)
        boxes[row] = np.array([top, left, top + side, left + side]) / SIDE
    return images, boxes


def blurred(folder: Path) -> NDArray[np.uint8]:
    """uint8 (M, 64, 64, 3): the middle of each photograph (``.jpg``, ``.JPEG``) below a folder, blurred."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = decode_rgb(path)
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        small = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        found.append(np.asarray(small.filter(ImageFilter.GaussianBlur(BLUR))))
    if not found:
        raise SystemExit(f"there are no photographs below {folder}")
    return np.stack(found)


def pasted_data(cifar: str, photographs: Path, train: int, test: int) -> Data:
    """The data set: ``train`` and ``test`` images of CIFAR-10's own two parts."""
    backgrounds = blurred(photographs)
    data = open_data(f"cifar10:{cifar}")

    def load(role: Role, count: int, seed: int) -> ArrayImages:
        images = data.role(role)
        assert isinstance(images, ArrayImages)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:count])
        pixels, boxes = paste(images.pixels[chosen], backgrounds, seed)
        levels = {name: Level(level.labels[chosen], level.classes) for name, level in images.levels.items()}
        return ArrayImages(NAME, role, pixels, levels, {BOXES: boxes})

    splits = {"train": partial(load, "train", train, 0), "test": partial(load, "test", test, 1)}
    roles: dict[Role, str] = {"pretrain": "train", "train": "train", "test": "test"}
    return Data(NAME, NAME, splits=dict(splits), roles=roles, mean=CIFAR10.mean, std=CIFAR10.std, image_size=SIDE)


def enter(data: Data) -> None:
    """Have :func:`zoo.data.open_data` know the data set by its name, in this process."""
    _OPENERS[NAME] = lambda _spec, _on_bad: data
