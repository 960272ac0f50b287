"""`shapes`: images made on the fly from a seed, with a class hierarchy, known boxes and known masks.

One filled shape per image, anywhere, at any size, rotation and colour, on a shaded and noisy background. Three levels of labels:
superclass (3) > class (9) > variant (18). Colour, position and background say nothing about the class, so that nearest neighbours of
raw pixels stay near chance, while a network that learns outlines can tell the classes apart. It is the embedded default: no download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import ArrayImages, Data, Images, Level
from zoo.data.spec import SHAPES, DataSpec, parse_spec, whole_number
from zoo.errors import UserError
from zoo.randomness import generator, uniforms

Array = NDArray[np.float64]

# Statistics of pixels in [0, 1] for normalisation; round numbers, since colours are drawn symmetrically about mid-grey.
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)

SUPERSAMPLING = 4
# Radius of the circumscribed circle, of half the image's side, for a shape that fills FILL_REFERENCE of that circle. Others are scaled
# to the same area, so that the amount of coloured pixels does not give the class away.
RADIUS = (0.5, 0.8)
FILL_REFERENCE = 0.5
MAX_RADIUS = 0.95
POSITION = 1.0  # share of the room around the shape that its centre uses
BRIGHTNESS = (0.3, 0.7)  # midway between shape and background
CONTRAST = (0.25, 0.45)  # difference in brightness between shape and background
TINT = 0.15  # largest deviation of a colour channel from grey
GRADIENT = 0.2  # largest shading of the background, from its centre to an edge
NOISE = 0.06  # standard deviation of the pixel noise
CLUTTER_RADIUS = (0.08, 0.22)
_IMAGES_AT_ONCE = 128


def _polygon(theta: Array, sides: int) -> Array:
    """Polar radius of a regular polygon with circumscribed radius 1."""
    sector = 2 * np.pi / sides
    return np.cos(sector / 2) / np.cos(np.mod(theta, sector) - sector / 2)


def _disc(x: Array, y: Array, hole: float = 0.0) -> NDArray[np.bool_]:
    square = x * x + y * y
    return (square <= 1) & (square >= hole * hole)


def _ellipse(x: Array, y: Array, aspect: float) -> NDArray[np.bool_]:
    return x * x + (y / aspect) ** 2 <= 1


def _triangle(x: Array, y: Array, aspect: float) -> NDArray[np.bool_]:
    x, y = x, y / aspect
    return np.hypot(x, y) <= _polygon(np.arctan2(y, x), 3)


def _rectangle(x: Array, y: Array, aspect: float) -> NDArray[np.bool_]:
    half = 1 / np.hypot(1, aspect)
    return (np.abs(x) <= half) & (np.abs(y) <= half * aspect)


def _hexagon(x: Array, y: Array, aspect: float) -> NDArray[np.bool_]:
    x, y = x, y / aspect
    return np.hypot(x, y) <= _polygon(np.arctan2(y, x), 6)


def _flower(x: Array, y: Array, petals: int) -> NDArray[np.bool_]:
    return np.hypot(x, y) <= 0.66 + 0.34 * np.cos(petals * np.arctan2(y, x))


def _cross(x: Array, y: Array, arm: float) -> NDArray[np.bool_]:
    x, y = np.abs(x), np.abs(y)
    return (np.minimum(x, y) <= arm) & (np.maximum(x, y) <= 1)


def _gear(x: Array, y: Array, teeth: int) -> NDArray[np.bool_]:
    return np.hypot(x, y) <= np.where(np.cos(teeth * np.arctan2(y, x)) > 0, 1.0, 0.74)


@dataclass(frozen=True)
class _Variant:
    superclass: str
    name: str
    variant: str
    inside: Callable[[Array, Array], NDArray[np.bool_]]


_VARIANTS = (
    _Variant("round", "circle", "disc", _disc),
    _Variant("round", "circle", "pierced", partial(_disc, hole=0.22)),
    _Variant("round", "ellipse", "wide", partial(_ellipse, aspect=0.6)),
    _Variant("round", "ellipse", "narrow", partial(_ellipse, aspect=0.42)),
    _Variant("round", "ring", "thick", partial(_disc, hole=0.5)),
    _Variant("round", "ring", "thin", partial(_disc, hole=0.68)),
    _Variant("polygon", "triangle", "equilateral", partial(_triangle, aspect=1.0)),
    _Variant("polygon", "triangle", "slender", partial(_triangle, aspect=0.75)),
    _Variant("polygon", "square", "regular", partial(_rectangle, aspect=1.0)),
    _Variant("polygon", "square", "oblong", partial(_rectangle, aspect=0.65)),
    _Variant("polygon", "hexagon", "regular", partial(_hexagon, aspect=1.0)),
    _Variant("polygon", "hexagon", "flat", partial(_hexagon, aspect=0.75)),
    _Variant("radial", "flower", "five petals", partial(_flower, petals=5)),
    _Variant("radial", "flower", "six petals", partial(_flower, petals=6)),
    _Variant("radial", "cross", "thick", partial(_cross, arm=0.36)),
    _Variant("radial", "cross", "thin", partial(_cross, arm=0.24)),
    _Variant("radial", "gear", "eight teeth", partial(_gear, teeth=8)),
    _Variant("radial", "gear", "eleven teeth", partial(_gear, teeth=11)),
)


def _area_scale() -> Array:
    """Per variant, the factor on the radius that gives it the reference area."""
    axis = (np.arange(200) + 0.5) / 100 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    fill = np.array([v.inside(x, y).mean() * 4 / np.pi for v in _VARIANTS])
    return np.sqrt(FILL_REFERENCE / fill)


_AREA_SCALE = _area_scale()
# Its images lie in memory, and a claim may say how many there are.
_MOST_BYTES, _MOST_CLUTTER = 4 << 30, 1_000


@dataclass(frozen=True)
class ShapesOptions:
    """What `shapes:KEY=VALUE,...` may say (:data:`zoo.data.spec.SHAPES_KEYS`).

    Attributes
    ----------
    train, test
        Images in each split.
    size
        Side of the square images, pixels.
    clutter
        Small distracting pieces behind the shape, per image.
    seed
        Another seed makes other images of the same kind.
    """

    train: int = 3000
    test: int = 1000
    size: int = 32
    clutter: int = 0
    seed: int = 0


def _options(spec: DataSpec) -> ShapesOptions:
    usual = ShapesOptions()
    options = ShapesOptions(**{one.name: whole_number(spec, one.name, getattr(usual, one.name)) for one in fields(ShapesOptions)})
    if min(options.train, options.test) < 1 or options.size < 8:
        raise UserError("data 'shapes' needs at least one image per split and size >= 8")
    if 3 * options.size**2 * (options.train + options.test) > _MOST_BYTES or options.clutter > _MOST_CLUTTER:
        raise UserError(f"data '{spec}' would be larger than {_MOST_BYTES >> 30} GiB, or have more clutter than {_MOST_CLUTTER}")
    return options


def _levels(variants: NDArray[np.int64]) -> dict[str, Level]:
    superclasses = list(dict.fromkeys(v.superclass for v in _VARIANTS))
    classes = list(dict.fromkeys(v.name for v in _VARIANTS))
    to_superclass = np.array([superclasses.index(v.superclass) for v in _VARIANTS])
    to_class = np.array([classes.index(v.name) for v in _VARIANTS])
    return {
        "superclass": Level(to_superclass[variants], tuple(superclasses)),
        "class": Level(to_class[variants], tuple(classes)),
        "variant": Level(variants, tuple(f"{v.name}, {v.variant}" for v in _VARIANTS)),
    }


def _between(u: Array, low: float, high: float) -> Array:
    return low + (high - low) * u


def _draw(
    options: ShapesOptions, split: str, index: NDArray[np.int64], variants: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Images uint8 (B, S, S, 3) and masks bool (B, S, S) at positions ``index`` of a split."""
    size, count = options.size, len(index)
    u = uniforms(options.seed, f"shapes {split}", 15, index=index)
    fine = size * SUPERSAMPLING
    axis = (np.arange(fine) + 0.5) / fine * 2 - 1  # -1 .. 1 over the image
    radius = (_between(u[:, 0], *RADIUS) * _AREA_SCALE[variants]).clip(max=MAX_RADIUS)
    # The whole shape stays inside the image.
    center_y, center_x = (_between(u[:, k], -1, 1) * POSITION * (1 - radius) for k in (1, 2))
    angle = u[:, 3] * 2 * np.pi
    dy = (axis[None, :] - center_y[:, None])[:, :, None] / radius[:, None, None]
    dx = (axis[None, :] - center_x[:, None])[:, None, :] / radius[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    inside = np.empty((count, fine, fine), dtype=bool)
    for variant in np.unique(variants):
        rows = variants == variant
        inside[rows] = _VARIANTS[variant].inside(x[rows], y[rows])

    def coverage(mask: NDArray[np.bool_]) -> Array:
        return mask.reshape(count, size, SUPERSAMPLING, size, SUPERSAMPLING).mean((2, 4))

    # Brightness on both sides of mid-grey, either one the brighter; then a tint for each.
    middle, half = _between(u[:, 12], *BRIGHTNESS), _between(u[:, 13], *CONTRAST) / 2
    sign = np.where(u[:, 14] < 0.5, -1, 1)
    background = (middle - sign * half)[:, None] + _between(u[:, 4:7], -TINT, TINT)
    foreground = (middle + sign * half)[:, None] + _between(u[:, 7:10], -TINT, TINT)
    pixel = axis.reshape(size, SUPERSAMPLING).mean(1)
    slope = u[:, 10] * 2 * np.pi
    ramp = np.cos(slope)[:, None, None] * pixel[None, :, None] + np.sin(slope)[:, None, None] * pixel[None, None, :]
    image = background[:, None, None, :] + (GRADIENT * u[:, 11])[:, None, None, None] * ramp[..., None]
    for piece in range(options.clutter):
        v = uniforms(options.seed, f"shapes {split} clutter {piece}", 8, index=index)
        extent = _between(v[:, 0], *CLUTTER_RADIUS)[:, None, None]
        piece_y = (axis[None, :] - _between(v[:, 1], -1, 1)[:, None])[:, :, None]
        piece_x = (axis[None, :] - _between(v[:, 2], -1, 1)[:, None])[:, None, :]
        # Discs and squares in equal parts, so that no outline gives the clutter away.
        norm = np.where((v[:, 3] < 0.5)[:, None, None], np.hypot(piece_x, piece_y), np.maximum(np.abs(piece_x), np.abs(piece_y)))
        share = coverage(norm <= extent)[..., None]
        image = image * (1 - share) + v[:, None, None, 4:7] * share
    covered: Array = coverage(inside)
    image = image * (1 - covered[..., None]) + foreground[:, None, None, :] * covered[..., None]
    for row, position in enumerate(index):
        image[row] += NOISE * generator(options.seed, f"shapes {split} noise", int(position)).standard_normal((size, size, 3))
    return (image.clip(0, 1) * 255).round().astype(np.uint8), np.greater(covered, 0.5)


def _boxes(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tightest boxes float32 (N, 4) as (h0, w0, h1, w1): first and last active row and column, over the side."""
    side = masks.shape[1]
    rows, columns = np.any(masks, axis=2), np.any(masks, axis=1)
    first = [rows.argmax(1), columns.argmax(1)]
    last = [side - 1 - np.flip(rows, 1).argmax(1), side - 1 - np.flip(columns, 1).argmax(1)]
    return (np.stack(first + last, axis=1) / side).astype(np.float32)


def _split(options: ShapesOptions, split: str) -> Images:
    count = options.train if split == "train" else options.test
    index = np.arange(count)
    variants = index % len(_VARIANTS)
    parts = [
        _draw(options, split, index[start : start + _IMAGES_AT_ONCE], variants[start : start + _IMAGES_AT_ONCE])
        for start in range(0, count, _IMAGES_AT_ONCE)
    ]
    pixels, masks = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return ArrayImages("shapes", split, pixels, _levels(variants), {"boxes": _boxes(masks), "masks": masks})


def make_shapes(options: str = "") -> Data:
    """The `shapes` data set.

    Parameters
    ----------
    options
        ``"KEY=VALUE,..."`` with the keys of :class:`ShapesOptions`, e.g. ``"train=500,size=64,clutter=4"``.

    Returns
    -------
    Data with splits ``train`` and ``test``. Image i of a split depends on (seed, size, clutter, split, i) alone, not on the count.
    Its ``extras`` are ``masks`` (bool (N, S, S)) and ``boxes`` (float32 (N, 4), relative (h0, w0, h1, w1), from the first to the last
    active row and column, the form that survey boxes have).

    Raises
    ------
    UserError
        An unknown option or a value out of range.
    """
    spec = parse_spec(f"{SHAPES}:{options}")
    parsed = _options(spec)
    return Data(
        spec=str(spec),
        name=SHAPES,
        splits={split: partial(_split, parsed, split) for split in ("train", "test")},
        roles={"pretrain": "train", "train": "train", "test": "test"},
        mean=MEAN,
        std=STD,
        image_size=parsed.size,
    )
