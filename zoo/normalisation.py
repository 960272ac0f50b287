"""The statistics that most published networks expect their images normalised with. Free of torch and NumPy, for quick commands."""

from __future__ import annotations

from collections.abc import Iterable

# Per channel, RGB, of pixels in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def three_channels(values: Iterable[float]) -> tuple[float, float, float]:
    """A number for each channel, as floats. Raises ValueError or TypeError where the values are not three numbers."""
    red, green, blue = map(float, values)
    return red, green, blue
