"""Crop samplers: they turn uniform numbers into crops and never touch a pixel.

A crop is (top, left, height, width) in whole pixels of its image. A survey's box is (h0, w0, h1, w1) in shares of its image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import betaincinv

from evaluation.views.settings import ViewSettings
from zoo.errors import UserError

TRIES = 10
SHAPE_DRAWS = 2 * TRIES
# Up to this alpha a Chebyshev series of this degree gives the Beta law's quantiles to twelve digits (a test holds it to that).
SERIES_ALPHA, SERIES_DEGREE = 2.0, 20


_Numbers = TypeVar("_Numbers", float, NDArray[np.float64])


class CropSampler(Protocol):
    """Draws one crop per image.

    Attributes
    ----------
    draws
        How many uniform numbers one crop takes.
    follows_boxes
        Whether it makes use of the survey's boxes.
    """

    draws: ClassVar[int]
    follows_boxes: ClassVar[bool]

    def __call__(
        self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64], boxes: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]:
        """Crops int64 (B, 4) for images of ``sizes`` (B, 2: height, width), from uniform numbers (B, draws) in [0, 1).

        ``boxes`` are the images' float32 (B, 4: h0, w0, h1, w1) in shares of height and width; None before the first survey.
        """


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
    follows_boxes: ClassVar[bool] = False

    def __call__(
        self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64], boxes: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]:
        shapes, fitted = crop_shapes(sizes, uniforms, self.scale, self.ratio)
        room = sizes - shapes
        corners = np.where(fitted[:, None], np.floor(uniforms[:, SHAPE_DRAWS : self.draws] * (room + 1)).astype(np.int64), room // 2)
        return np.concatenate([corners, shapes], axis=1)


@dataclass(frozen=True)
class ContrastiveCrop:
    """Semantic-aware, centre-suppressed cropping (Peng et al., "Crafting better contrastive views for Siamese representation learning",
    arXiv 2202.03278), with the law of the repository xyupeng/ContrastiveCrop as of June 2022.

    Shapes are those of :class:`RandomResizedCrop`, drawn from the same numbers. The crop's centre is drawn in the image's box, each
    coordinate by an own Beta(alpha, alpha); the crop itself may leave the box, never the image. Where no try of a shape fits, the
    crop is the central one, whatever the box. Without boxes this is :class:`RandomResizedCrop`.

    Attributes
    ----------
    inclusive
        The published sampler rounds offsets down, so that the far end of a range is never reached and crops lie half a pixel too far
        to the top left. True: every offset from the near end to the far one can occur.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    alpha: float
    inclusive: bool = False
    draws: ClassVar[int] = SHAPE_DRAWS + 2
    follows_boxes: ClassVar[bool] = True

    def __call__(
        self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64], boxes: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]:
        if boxes is None:
            return RandomResizedCrop(self.scale, self.ratio)(sizes, uniforms)
        shapes, fitted = crop_shapes(sizes, uniforms, self.scale, self.ratio)
        low, high = placement_limits(sizes, shapes, boxes)
        share = beta_quantiles(uniforms[:, SHAPE_DRAWS : self.draws], self.alpha)
        span = high - low
        cells = span + 1 if self.inclusive else span
        # In float64 a share may round up to 1, which is one cell too far.
        offsets = np.minimum((share * cells).astype(np.int64), np.maximum(cells - 1, 0))
        corners = np.where(fitted[:, None], low + offsets, (sizes - shapes) // 2)
        return np.concatenate([corners, shapes], axis=1)

    def one(self, size: Sequence[int], uniforms: Sequence[float], box: Sequence[float]) -> list[int]:
        """The crop of one image of ``size`` (height, width), in plain numbers.

        It is the crop that a call gives for the same numbers, for a ``box`` of float32 numbers. NumPy takes a microsecond a call however
        little there is to compute, and a call makes some sixty of them.
        """
        height, width = size
        low, high = self.scale
        flattest, widest = math.log(self.ratio[0]), math.log(self.ratio[1])
        for number in range(0, SHAPE_DRAWS, 2):
            area = (height * width) * (low + (high - low) * uniforms[number])
            aspect = math.exp(flattest + (widest - flattest) * uniforms[number + 1])
            shape = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < shape[0] <= height and 0 < shape[1] <= width:
                break
        else:
            shape = tuple(_largest_shapes(np.array([size]), self.ratio)[0].tolist())
            return [(height - shape[0]) // 2, (width - shape[1]) // 2, *shape]
        corner = []
        for side, length, start, end, uniform in zip(size, shape, box[:2], box[2:], uniforms[SHAPE_DRAWS : self.draws], strict=True):
            least, most = (min(max(math.trunc(edge * side) - length // 2, 0), side - length) for edge in (start, end))
            cells = most - least + self.inclusive
            corner.append(least + min(int(beta_quantile(uniform, self.alpha) * cells), max(cells - 1, 0)))
        return [*corner, *shape]


def beta_quantiles(uniforms: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Values of the Beta(alpha, alpha) law from uniform numbers, to an absolute error of 1e-12: the inverse of its distribution function.

    In the lower half the quantile is a smooth function of ``uniforms ** (1 / alpha)``, hence a short series; the upper half mirrors it.
    ``scipy.special.betaincinv``, which alphas above ``SERIES_ALPHA`` are left to, took six times as long.
    """
    if alpha == 1.0:
        return uniforms
    if alpha > SERIES_ALPHA:
        return np.asarray(betaincinv(alpha, alpha, uniforms))
    root = (2.0 * np.minimum(uniforms, 1.0 - uniforms)) ** (1.0 / alpha)
    lower = _chebyshev(_quantile_series(alpha), 2.0 * root - 1.0)
    return np.where(uniforms < 0.5, lower, 1.0 - lower)


def beta_quantile(uniform: float, alpha: float) -> float:
    """:func:`beta_quantiles` of one number."""
    if alpha == 1.0:
        return uniform
    if alpha > SERIES_ALPHA:
        return float(betaincinv(alpha, alpha, uniform))
    lower = _chebyshev(_quantile_series(alpha), 2.0 * (2.0 * min(uniform, 1.0 - uniform)) ** (1.0 / alpha) - 1.0)
    return lower if uniform < 0.5 else 1.0 - lower


@lru_cache(maxsize=16)
def _quantile_series(alpha: float) -> list[float]:
    """Chebyshev coefficients of the quantile at ``root ** alpha / 2``, for ``2 * root - 1`` in [-1, 1], from the highest degree down."""
    series = chebyshev.chebinterpolate(lambda t: betaincinv(alpha, alpha, 0.5 * ((t + 1.0) / 2.0) ** alpha), SERIES_DEGREE)
    return [float(coefficient) for coefficient in series[::-1]]


def _chebyshev(descending: Sequence[float], x: _Numbers) -> _Numbers:
    """The series at ``x``, numbers or a number, by Clenshaw's recurrence."""
    last, before = descending[0] + 0.0 * x, 0.0 * x
    for coefficient in descending[1:-1]:
        last, before = coefficient + 2.0 * x * last - before, last
    return descending[-1] + x * last - before


def placement_limits(
    sizes: NDArray[np.int64], shapes: NDArray[np.int64], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The range of a crop's top and left with its centre in the box and itself in the image (repository xyupeng/ContrastiveCrop).

    Parameters
    ----------
    sizes, shapes
        int64 (B, 2): height and width of the images and of the crops.
    boxes
        float32 (B, 4): h0, w0, h1, w1, in shares of height and width.

    Returns
    -------
    low, high
        int64 (B, 2): the least and the largest top and left.
    """
    # Shares are widened before they are multiplied: 0.1 in float32 is not 0.1, and rounding down makes a pixel of the difference.
    edges = np.trunc(boxes.astype(np.float64).reshape(-1, 2, 2) * sizes[:, None, :]).astype(np.int64) - (shapes // 2)[:, None, :]
    edges = np.clip(edges, 0, (sizes - shapes)[:, None, :])
    return edges[:, 0], edges[:, 1]


@dataclass(frozen=True)
class SimCCrop:
    """:class:`ContrastiveCrop` with one box for all images, so that no survey is needed (the published one is the central half,
    (0.25, 0.25, 0.75, 0.75)).
    """

    placed: ContrastiveCrop
    box: tuple[float, float, float, float]
    draws: ClassVar[int] = ContrastiveCrop.draws
    follows_boxes: ClassVar[bool] = False

    def __call__(
        self, sizes: NDArray[np.int64], uniforms: NDArray[np.float64], boxes: NDArray[np.float32] | None = None
    ) -> NDArray[np.int64]:
        return self.placed(sizes, uniforms, np.broadcast_to(np.array(self.box, dtype=np.float32), (len(sizes), 4)))


def _random_resized_crop(settings: ViewSettings) -> CropSampler:
    return RandomResizedCrop((settings.scale[0], settings.scale[1]), (settings.ratio[0], settings.ratio[1]))


def _contrastive_crop(settings: ViewSettings) -> ContrastiveCrop:
    scale, ratio = (settings.scale[0], settings.scale[1]), (settings.ratio[0], settings.ratio[1])
    return ContrastiveCrop(scale, ratio, settings.alpha, settings.inclusive)


def _simccrop(settings: ViewSettings) -> CropSampler:
    top, left, bottom, right = settings.central_box
    return SimCCrop(_contrastive_crop(settings), (top, left, bottom, right))


SAMPLERS: dict[str, Callable[[ViewSettings], CropSampler]] = {
    "random_resized_crop": _random_resized_crop,
    "contrastive_crop": _contrastive_crop,
    "simccrop": _simccrop,
}


def make_sampler(settings: ViewSettings) -> CropSampler:
    """The sampler of a view with these settings. Raises UserError that lists the samplers there are."""
    if settings.crop not in SAMPLERS:
        raise UserError(f"there is no crop sampler '{settings.crop}' (views.crop); there are: {', '.join(SAMPLERS)}")
    return SAMPLERS[settings.crop](settings)
