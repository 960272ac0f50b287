"""What a recipe says about views, and what a method declares of each of its views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.errors import UserError

INTERPOLATIONS = ("bilinear", "bicubic")
BACKENDS = ("device", "cpu")
PROBABILITIES = ("flip", "vertical_flip", "jitter", "channel_permutation", "grayscale", "blur", "solarize", "invert")


@dataclass(frozen=True)
class ViewSpec:
    """One view that a method asks for.

    Attributes
    ----------
    name
        The method's word for it, e.g. ``"query"``.
    source
        Whose pixels are shown: ``"self"``, the sample's own image.
    sampler
        What draws its crop: a name in :data:`pretrain.views.samplers.SAMPLERS`.
    size
        Side in pixels; None for the recipe's (:attr:`ViewSettings.size`).
    """

    name: str
    source: str = "self"
    sampler: str = "random_resized_crop"
    size: int | None = None

    def side(self, settings: ViewSettings) -> int:
        """Side of the view in pixels."""
        return settings.size if self.size is None else self.size


@dataclass
class ViewSettings:
    """The augmentation of a recipe. The defaults are MoCo v2's at ImageNet size (Chen et al., arXiv 2003.04297).

    Each operation is applied to a sample with the probability that carries the operation's name, in this order: crop, flips, jitter,
    channel permutation, grayscale, blur, solarize, invert, normalise.

    Attributes
    ----------
    size
        Side of a view in pixels.
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
    """

    size: int = 224
    scale: list[float] = field(default_factory=lambda: [0.2, 1.0])
    ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    interpolation: str = "bilinear"
    flip: float = 0.5
    vertical_flip: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    channel_permutation: float = 0.0
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    solarize: float = 0.0
    invert: float = 0.0
    backend: str = "device"

    def check(self) -> None:
        """Raise UserError for the first value that has no meaning."""
        if self.size < 1:
            raise UserError(f"views.size must be at least 1 pixel, not {self.size}")
        _check_range("scale", self.scale, upper=1.0)
        _check_range("ratio", self.ratio)
        _check_range("blur_sigma", self.blur_sigma)
        for name in PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"views.{name} is a probability and must lie in 0 .. 1, not {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise UserError(f"views.{name} is a strength and must be 0 or more, not {getattr(self, name)}")
        if not 0.0 <= self.hue <= 0.5:
            raise UserError(f"views.hue must lie in 0 .. 0.5 (turns of the colour circle), not {self.hue}")
        _check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_choice("backend", self.backend, BACKENDS)


def _check_range(name: str, values: Sequence[float], upper: float = float("inf")) -> None:
    if len(values) != 2 or not 0.0 < values[0] <= values[1] <= upper or values[1] == float("inf"):
        limit = "positive numbers" if upper == float("inf") else f"numbers in (0, {upper:g}]"
        raise UserError(f"views.{name} must be two increasing {limit}, not {list(values)}")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"views.{name} must be {' or '.join(choices)}, not '{value}'")
