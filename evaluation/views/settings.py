"""What a recipe says about views, and what a method declares of each of its views."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from zoo.errors import UserError
from zoo.ranges import POSITIVE, SHARE, SIDE, Range, check_ranges

INTERPOLATIONS = ("bilinear", "bicubic")
BACKENDS = ("device", "cpu")


@dataclass(frozen=True)
class ViewSpec:
    """One view that a method asks for.

    Attributes
    ----------
    name
        The method's word for it, e.g. ``"query"``.
    source
        Whose pixels are shown: ``"self"``, the sample's own image; ``"neighbour"``, one of its neighbours in the survey's table, drawn
        anew in each epoch, the same one for all such views of the sample. Its crop follows its own box.
    crop
        What draws its crop: a name in :data:`evaluation.views.samplers.SAMPLERS`; None for the recipe's (:attr:`ViewSettings.crop`).
    size
        Side in pixels; None for the recipe's.
    scale
        The crop's share of the image's area; None for the recipe's.
    """

    name: str
    source: str = "self"
    crop: str | None = None
    size: int | None = None
    scale: tuple[float, float] | None = None

    def resolve(self, settings: ViewSettings) -> ViewSettings:
        """The augmentation of this view: the recipe's, under what the method fixes, under what the recipe says of this view alone.

        Raises UserError for a value without meaning.
        """
        own: dict[str, Any] = {}
        if self.crop is not None:
            own["crop"] = self.crop
        if self.size is not None:
            own["size"] = self.size
        if self.scale is not None:
            own["scale"] = list(self.scale)
        own.update(_checked_changes(self.name, settings.each.get(self.name, {})))
        resolved = replace(settings, **own, each={})
        resolved.check(f"views.each.{self.name}" if self.name in settings.each else "views")
        return resolved


@dataclass
class ViewSettings:
    """The augmentation of a recipe. The defaults are MoCo v2's at ImageNet size (Chen et al., arXiv 2003.04297).

    Each operation is applied to a sample with the probability that carries the operation's name, in this order: crop, flips, jitter,
    channel permutation, grayscale, blur, solarize, invert, normalise.

    Attributes
    ----------
    size
        Side of a view in pixels.
    crop
        Where crops lie: ``random_resized_crop`` (anywhere), ``contrastive_crop`` (around the survey's boxes) or ``simccrop`` (around
        ``central_box``).
    alpha
        Of the Beta(alpha, alpha) law by which ``contrastive_crop`` and ``simccrop`` place a crop's centre in its box: 1 is uniform, below 1
        the box's edges are preferred.
    central_box
        The box of ``simccrop``: (h0, w0, h1, w1) in shares of the image.
    inclusive
        Whether ``contrastive_crop`` and ``simccrop`` may also place a crop at the far end of its range, which the published sampler's
        rounding never does.
    scale, ratio
        Ranges of the crop's share of the image's area, and of its width over its height (log-uniform).
    interpolation
        ``bilinear`` or ``bicubic``, both with antialiasing.
    flip
        Probability of a horizontal flip.
    vertical_flip
        Probability of a vertical flip; for images without an up and down.
    jitter
        Probability of colour jitter: the four adjustments below, in random order.
    brightness, contrast, saturation
        A factor is uniform in [max(0, 1 - x), 1 + x].
    hue
        The shift is uniform in [-x, x], in turns of the colour circle; at most 0.5.
    channel_permutation
        Probability of permuting R, G and B (all six orders are equally likely, the identity among them).
    grayscale, blur, solarize, invert
        Probabilities; the last is of the negative image.
    blur_sigma
        Range of the Gaussian's standard deviation in pixels of the view.
    backend
        ``device``: float32, batched, on the training device. ``cpu``: Pillow's own operations, one image at a time, in the loader.
    each
        What is different in one view, by the view's name: ``{second: {blur: 0.1, solarize: 0.2}}``.
    """

    size: Annotated[int, SIDE] = 224
    crop: str = "random_resized_crop"
    alpha: Annotated[float, POSITIVE] = 0.6
    central_box: Annotated[list[float], SHARE] = field(default_factory=lambda: [0.25, 0.25, 0.75, 0.75])
    inclusive: bool = False
    scale: Annotated[list[float], Range(0, 1, above=True)] = field(default_factory=lambda: [0.2, 1.0])
    ratio: Annotated[list[float], POSITIVE] = field(default_factory=lambda: [3 / 4, 4 / 3])
    interpolation: str = "bilinear"
    flip: Annotated[float, SHARE] = 0.5
    vertical_flip: Annotated[float, SHARE] = 0.0
    jitter: Annotated[float, SHARE] = 0.8
    brightness: Annotated[float, Range(0)] = 0.4
    contrast: Annotated[float, Range(0)] = 0.4
    saturation: Annotated[float, Range(0)] = 0.4
    hue: Annotated[float, Range(0, 0.5)] = 0.1
    channel_permutation: Annotated[float, SHARE] = 0.0
    grayscale: Annotated[float, SHARE] = 0.2
    blur: Annotated[float, SHARE] = 0.5
    blur_sigma: Annotated[list[float], POSITIVE] = field(default_factory=lambda: [0.1, 2.0])
    solarize: Annotated[float, SHARE] = 0.0
    invert: Annotated[float, SHARE] = 0.0
    backend: str = "device"
    each: dict[str, Any] = field(default_factory=dict)

    def check(self, group: str = "views") -> None:
        """Raise UserError for the first value that has no meaning; ``group`` is what the message calls these settings."""
        check_ranges(self, f"{group}.")
        for name in ("scale", "ratio", "blur_sigma"):
            _check_pair(f"{group}.{name}", getattr(self, name))
        check_box(f"{group}.central_box", self.central_box)
        _check_choice(f"{group}.interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice(f"{group}.backend", self.backend, BACKENDS)


# What one view alone cannot have: all views of an image are made in one place.
_SHARED = ("backend", "each")


def _checked_changes(view: str, changes: Any) -> dict[str, Any]:
    """What a recipe says of one view, with known keys and values of the defaults' types."""
    known = {item.name: getattr(ViewSettings(), item.name) for item in fields(ViewSettings) if item.name not in _SHARED}
    if not isinstance(changes, dict):
        raise UserError(f"views.each.{view} is a group of keys ({', '.join(known)}), not the single value '{changes}'")
    for key, value in changes.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise UserError(f"views.each.{view} has an unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        wanted = type(known[key])
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool) is not (wanted is bool):
            raise UserError(f"views.each.{view}.{key} must be of the kind of {known[key]}, not '{value}'")
    return dict(changes)


def check_box(name: str, box: Sequence[float]) -> None:
    """Raise UserError unless ``box`` is (h0, w0, h1, w1) with 0 <= h0 < h1 <= 1 and 0 <= w0 < w1 <= 1."""
    if len(box) != 4 or not (0.0 <= box[0] < box[2] <= 1.0 and 0.0 <= box[1] < box[3] <= 1.0):
        raise UserError(
            f"{name} must be [top, left, bottom, right] in shares of the image, such as [0.25, 0.25, 0.75, 0.75], not {list(box)}"
        )


def _check_pair(name: str, values: Sequence[float]) -> None:
    if len(values) != 2 or values[0] > values[1]:
        raise UserError(f"{name} must be two increasing numbers, not {list(values)}")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{name} must be {' or '.join(choices)}, not '{value}'")


# The local crops of CsMl's and HCSC's multi-crop at 224 px (the authors' repositories haohang96/moco_group_ShuffleBN, branch mc, and
# gyfastas/HCSC): side in pixels, and share of the image's area.
LOCAL_CROPS = ((192, (0.172, 0.86)), (160, (0.143, 0.715)), (128, (0.114, 0.571)), (96, (0.086, 0.429)))
LOCAL_CROPS_OF = 224


def local_views(size: int) -> tuple[ViewSpec, ...]:
    """The local views of multi-crop, beside global ones of ``size`` pixels: ``local0`` (the largest) to ``local3``.

    At 224 pixels those of :data:`LOCAL_CROPS`; at other sizes the same shares of area, and sides in the same proportion. They are random
    resized crops whatever the global views are, since a box says nothing that so small a crop could follow.
    """
    return tuple(
        ViewSpec(f"local{number}", crop="random_resized_crop", size=max(1, round(side * size / LOCAL_CROPS_OF)), scale=scale)
        for number, (side, scale) in enumerate(LOCAL_CROPS)
    )
