"""Average precision in the forms that are in use for PASCAL VOC, which differ: by eleven points, by area, and per image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Recalls at which the official VOC 2007 measure reads the precision.
_POINTS = np.arange(11) / 10
# What separates recalls that are equal but for rounding.
_EPSILON = 1e-12


def average_precision(truth: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Average precision of one class.

    The images are ranked by score; those with equal scores come in together. The precision at a recall r is the best that is reached at any
    recall from r on (interpolation).

    Parameters
    ----------
    truth
        bool (N,): whether an image shows the class. At least one does.
    scores
        Real numbers (N,): the larger, the surer.

    Returns
    -------
    eleven_point, area
        The mean of the precision at recalls 0, .1, ..., 1 (the official measure of VOC 2007: Everingham et al., IJCV 2010, section 4.2),
        and the area under the precision (official from VOC 2010 on; what VISSL and PCL print for VOC 2007). Both from 0 to 1.

    Raises
    ------
    ValueError
        No image shows the class, or shapes differ.
    """
    positive, value = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.shape != value.shape or positive.ndim != 1:
        raise ValueError(f"{positive.shape} truths do not go with {value.shape} scores")
    if not positive.any():
        raise ValueError("no image shows the class, so precision has no recall to be averaged over")
    recall, precision = _curve(positive, value)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    reached = np.searchsorted(recall, _POINTS - _EPSILON)
    eleven_point = float(np.mean(np.append(best, 0.0)[reached]))
    return eleven_point, area


def _curve(positive: NDArray[np.bool_], value: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall (ascending) and precision after each group of equally scored images."""
    order = np.argsort(-value, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(value[order])), len(value) - 1)
    hits = np.cumsum(positive[order])[ends]
    return hits / positive.sum(), hits / (ends + 1)


def per_image_precision(truth: ArrayLike, scores: ArrayLike) -> float:
    """The mean over images of the average precision among an image's own class scores, from 0 to 1.

    It asks whether an image's classes stand above the others *in that image*, not whether the images of a class stand above the other
    images, and is not to be compared with a class's average precision. HCSC's VOC07 script prints it as its mAP. The form within an image
    is scikit-learn's (no interpolation). Images without any class are left out.

    Parameters
    ----------
    truth
        bool (N, C).
    scores
        (N, C).
    """
    positive, value = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.shape != value.shape or positive.ndim != 2:
        raise ValueError(f"{positive.shape} truths do not go with {value.shape} scores")
    found = []
    for row, numbers in zip(positive, value, strict=True):
        if row.any():
            recall, precision = _curve(row, numbers)
            found.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    if not found:
        raise ValueError("no image shows any class")
    return float(np.mean(found))
