"""A small grey picture of each image, and the perceptual hash that it gives.

The hash is dHash (N. Krawetz, "Kind of Like That", 2013: each bit says whether a pixel of a small grey picture is brighter than the
next one) in both directions: 64 bits for neighbours in a row, 64 for neighbours in a column. The picture itself is kept beside it,
since two pictures say more about how alike images are than the number of bits that differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Side of the picture, in pixels: eight differences a row and a column.
SIDE = 9
BYTES = SIDE * SIDE
HASH_BITS = 128
# Larger images are sampled on a grid of so many points a side first, which costs the same for an image of any size; what a pixel of the
# thumbnail then loses is less than what a re-encoding changes.
_GRID = 12 * SIDE


def thumbnail(image: Image.Image) -> Image.Image:
    """An image's small picture (9 x 9), in the image's own mode."""
    # From less than twice as many pixels, points would be picked unevenly.
    if min(image.size) >= 2 * _GRID:
        image = image.resize((_GRID, _GRID), Image.Resampling.NEAREST)
    # Triangles that overlap: a copy of half the size, whose pixels lie elsewhere, still gives the same picture.
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def grey_of(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels (...) of RGB values (..., 3), by the weights of ITU-R BT.601, as Pillow converts them."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hashes (N, 2), 128 bits each, of grey thumbnails (N, 9, 9)."""
    # Comparing bytes is exact, and needs no wider type.
    rows = thumbnails[:, :-1, :-1] > thumbnails[:, :-1, 1:]
    columns = thumbnails[:, :-1, :-1] > thumbnails[:, 1:, :-1]
    bits = np.concatenate([rows.reshape(-1, HASH_BITS // 2), columns.reshape(-1, HASH_BITS // 2)], axis=1)
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)


def differing_bits(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.int64]:
    """In how many of their 128 bits hashes (..., 2) differ: an array (...)."""
    return np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64)


def contrasts(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation of each thumbnail (N, 9, 9), in grey levels."""
    return thumbnails.reshape(len(thumbnails), BYTES).std(axis=1, dtype=np.float32)


def correlations(thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pearson's correlation of thumbnails ``first`` and ``second`` (M,) of (N, 9, 9), pixel by pixel; 0 where one has no contrast."""
    centred = thumbnails.reshape(len(thumbnails), BYTES).astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1)
    products = np.einsum("ij,ij->i", centred[first], centred[second])
    scale = lengths[first] * lengths[second]
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
