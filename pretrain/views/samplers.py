"""Crop samplers: they turn uniform numbers into boxes and never touch a pixel.

A box is (top, left, height, width) in whole pixels of its image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pretrain.views.settings import ViewSettings
from zoo.errors import UserError

TRIES = 10
SHAPE_DRAWS = 2 * TRIES


class CropSampler(Protocol):
    """Draws one box per image.

    Attributes
    ----------
    draws
        How many uniform numbers one box takes.
    """

    draws: ClassVar[int]

    def __call__(self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Boxes int64 (B, 4) for images of ``sizes`` (B, 2: height, width), from uniform numbers (B, draws) in [0, 1)."""


def crop_shapes(
    sizes: NDArray[np.int64], uniforms: NDArray[np.float64], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Heights and widths of random resized crops (the law of ``torchvision.transforms.RandomResizedCrop``).

    A try draws the area uniformly in ``scale`` times the image's and the aspect ratio (width over height) log-uniformly in ``ratio``.
    The first of ten tries that fits into the image counts. Where none fits, the shape is the largest one within the ratio's bounds.

    Parameters
    ----------
    sizes
        int64 (B, 2): heights and widths of the images.
    uniforms
        float64 (B, 20): area and ratio of each try.

    Returns
    -------
    shapes, fitted
        int64 (B, 2), and bool (B,): whether a try fitted (else the crop belongs in the image's centre).
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    low, high = scale
    area = (height * width) * (low + (high - low) * uniforms[:, 0:SHAPE_DRAWS:2])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspect = np.exp(low + (high - low) * uniforms[:, 1:SHAPE_DRAWS:2])
    heights = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    widths = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    rows, first = np.arange(len(sizes)), fits.argmax(axis=1)
    fitted = fits[rows, first]
    shapes = np.stack([heights[rows, first], widths[rows, first]], axis=1)
    if not fitted.all():
        shapes[~fitted] = _largest_shapes(sizes[~fitted], ratio)
    return shapes, fitted


def _largest_shapes(sizes: NDArray[np.int64], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """The largest height and width whose ratio lies within ``ratio``."""
    height, width = sizes[:, 0], sizes[:, 1]
    aspect = width / height
    heights = np.where(aspect < ratio[0], np.rint(width / ratio[0]).astype(np.int64), height)
    widths = np.where(aspect > ratio[1], np.rint(height * ratio[1]).astype(np.int64), width)
    return np.stack([heights, widths], axis=1)


@dataclass(frozen=True)
class RandomResizedCrop:
    """The crop of Szegedy et al. (arXiv 1409.4842), with the law of ``torchvision.transforms.RandomResizedCrop.get_params``.

    Shapes as in :func:`crop_shapes`; every position that keeps the crop inside the image is equally likely, both far edges included.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    draws: ClassVar[int] = SHAPE_DRAWS + 2

    def __call__(self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        shapes, fitted = crop_shapes(sizes, uniforms, self.scale, self.ratio)
        room = sizes - shapes
        corners = np.where(fitted[:, None], np.floor(uniforms[:, SHAPE_DRAWS : self.draws] * (room + 1)).astype(np.int64), room // 2)
        return np.concatenate([corners, shapes], axis=1)


def _random_resized_crop(settings: ViewSettings) -> CropSampler:
    return RandomResizedCrop((settings.scale[0], settings.scale[1]), (settings.ratio[0], settings.ratio[1]))


SAMPLERS: dict[str, Callable[[ViewSettings], CropSampler]] = {"random_resized_crop": _random_resized_crop}


def make_sampler(name: str, settings: ViewSettings) -> CropSampler:
    """The sampler called ``name``. Raises UserError that lists the samplers there are."""
    if name not in SAMPLERS:
        raise UserError(f"there is no crop sampler '{name}'; there are: {', '.join(SAMPLERS)}")
    return SAMPLERS[name](settings)
