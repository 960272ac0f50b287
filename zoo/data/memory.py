"""Small images of one size are decoded once and held in memory; others stay files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.cores import available_cores
from zoo.data.base import ArrayImages, FileImages, Images
from zoo.data.images import BadImageError
from zoo.data.images.decode import header_size
from zoo.data.scan import OnBad, apply_verdict, decode_all
from zoo.errors import UserError

# What "small" means for image folders and shards: square, at most this side, and a split of at most this many bytes.
SMALL_SIDE = 96
MEMORY_LIMIT = 2 * 1024**3
# Headers that are read, evenly spread, before all images of a split are decoded.
_HEADERS_READ = 64
# The same of images whose size only reading tells.
_FEW_READ = 4
# Decoding small images is half Python's own work, which one thread at a time can do.
_MAX_WORKERS = 4


_held: ContextVar[bool] = ContextVar("held", default=True)


@contextmanager
def left_on_disk() -> Iterator[None]:
    """Inside this block no image is decoded into memory: for a look at the files themselves."""
    token = _held.set(False)
    try:
        yield
    finally:
        _held.reset(token)


class _OtherSizeError(Exception):
    """An image is not of the expected size; the text says which."""


def load_images(images: FileImages, side: int, on_bad: OnBad = "refuse") -> Images:
    """Decode all images of a set whose images are ``side`` x ``side`` pixels into memory.

    Raises
    ------
    UserError
        An image of another size; or bad images and ``on_bad`` is ``"refuse"``.
    """
    if not _held.get():
        return images
    try:
        return _load(images, (side, side), on_bad)
    except _OtherSizeError as error:
        raise UserError(f"{error}, but those of {images.name} are {side}x{side}") from error


def hold_if_small(images: FileImages, on_bad: OnBad = "refuse") -> Images:
    """The same images in memory if all are square, of one size, at most SMALL_SIDE, and fit in MEMORY_LIMIT; else ``images``.

    Headers of a sample tell large images apart without a full read. Where the sample looks small all images are decoded, so
    one that differs is always found; then the split stays files, and its bad images are for :mod:`zoo.data.scan` to find.
    """
    if not _held.get():
        return images
    sizes = set()
    for index in np.linspace(0, len(images) - 1, min(len(images), _HEADERS_READ)).astype(np.int64):
        try:
            sizes.add(header_size(images.encoded(int(index)), images.reading))
        except BadImageError:
            continue
    if len(sizes) != 1:
        return images
    width, height = sizes.pop()
    if width != height or width > SMALL_SIDE or len(images) * width * height * 3 > MEMORY_LIMIT:
        return images
    try:
        return _load(images, (width, height), on_bad)
    except _OtherSizeError:
        return images


def hold_read_if_small(images: Images) -> Images:
    """:func:`hold_if_small` of images that are read otherwise than from files; the first few are read to tell small from large."""
    first = [images.read(index).size for index in range(min(len(images), _FEW_READ))]
    width, height = first[0]
    if len(set(first)) > 1 or width != height or width > SMALL_SIDE or len(images) * width * height * 3 > MEMORY_LIMIT:
        return images
    pixels: NDArray[np.uint8] = np.empty((len(images), height, width, 3), dtype=np.uint8)
    for index in range(len(images)):
        image = images.read(index)
        if image.size != (width, height):
            return images
        pixels[index] = np.asarray(image)
    return ArrayImages(images.name, images.split, pixels, images.levels, multilabel=images.multilabel)


def common_side(*splits: Images) -> int | None:
    """The side of the images in pixels where all ``splits`` are in memory at one square size, else None."""
    shapes = {None if split.pixels is None else split.pixels.shape[1:3] for split in splits}
    shape = shapes.pop()
    return int(shape[0]) if not shapes and shape is not None and shape[0] == shape[1] else None


def _load(images: FileImages, size: tuple[int, int], on_bad: OnBad) -> ArrayImages:
    """Decode all images, whose width and height must be ``size``."""
    pixels: NDArray[np.uint8] = np.empty((len(images), size[1], size[0], 3), dtype=np.uint8)

    def put(index: int, image: Image.Image) -> None:
        if image.size != size:
            raise _OtherSizeError(f"image {images.where(index)} is {image.width}x{image.height} pixels")
        pixels[index] = np.asarray(image)

    bad = decode_all(images, put, workers=min(available_cores(), _MAX_WORKERS))
    kept = apply_verdict(images, bad, on_bad)
    if bad:
        pixels = np.delete(pixels, [one.index for one in bad], axis=0)
    names = [kept.where(index) for index in range(len(kept))]
    loaded = ArrayImages(images.name, images.split, pixels, kept.levels, names=names, skipped=kept.skipped, multilabel=kept.multilabel)
    loaded.notes, loaded.skipped_reasons = images.notes, kept.skipped_reasons
    return loaded
