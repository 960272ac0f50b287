"""Average precision in the forms that are in use for PASCAL VOC, which differ: by eleven points, by area, and per image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.extraction.splits import UsedSplits
from zoo.data.base import Images, MultiLabel
from zoo.randomness import generator

# Recalls at which the official VOC 2007 measure reads the precision.
_POINTS = np.arange(11) / 10
# What separates recalls that are equal but for rounding.
_EPSILON = 1e-12


def average_precision(truth: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Average precision of one class.

    The images are ranked by score; those with equal scores come in together. The precision at a recall r is the best that is reached at any
    recall from r on (interpolation).

    Parameters
    ----------
    truth
        bool (N,): whether an image shows the class. At least one does.
    scores
        Real numbers (N,): the larger, the surer.
    weights
        Real numbers (N,): how many times each image counts; by default once.

    Returns
    -------
    eleven_point, area
        The mean of the precision at recalls 0, .1, ..., 1 (the official measure of VOC 2007: Everingham et al., IJCV 2010, section 4.2),
        and the area under the precision (official from VOC 2010 on; what VISSL and PCL print for VOC 2007). Both from 0 to 1.

    Raises
    ------
    ValueError
        No image shows the class, a score is NaN, or shapes differ.
    """
    positive, value = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.shape != value.shape or positive.ndim != 1:
        raise ValueError(f"{positive.shape} truths do not go with {value.shape} scores")
    if np.isnan(value).any():
        raise ValueError(f"{int(np.isnan(value).sum())} scores are no numbers, so they have no rank")
    counted = np.ones(len(positive)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not counted[positive].any():
        raise ValueError("no image shows the class, so precision has no recall to be averaged over")
    recall, precision = _curve(positive, value, counted)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    reached = np.searchsorted(recall, _POINTS - _EPSILON)
    eleven_point = float(np.mean(np.append(best, 0.0)[reached]))
    return eleven_point, area


def _curve(
    positive: NDArray[np.bool_], value: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall (ascending) and precision after each group of equally scored images."""
    order = np.argsort(-value, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(value[order])), len(value) - 1)
    seen = np.cumsum(weights[order])[ends]
    hits = np.cumsum((weights * positive)[order])[ends]
    # Images that do not count at all may stand first: there is no precision yet, and no recall either.
    return hits / hits[-1], np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)


def mean_precision_intervals(
    marks: NDArray[np.int8], scores: NDArray[np.floating], *, difficult_are_negative: bool = False, draws: int = 500, seed: int = 0
) -> dict[str, Any]:
    """95 % intervals of the means over classes, in percent, by drawing the test images again with replacement.

    They cover the chance of the test images alone: not that of the training.

    Parameters
    ----------
    marks
        int8 (N, C): 1 where an image shows a class, -1 where not, 0 where it is "difficult", which is left out unless
        ``difficult_are_negative``.
    scores
        (N, C).
    draws
        How many times.

    Returns
    -------
    ``method`` in words, and the limits of ``map_11point`` and ``map_area``.
    """
    rng = generator(seed, "bootstrap of test images")
    means = np.empty((draws, 2))
    for draw in range(draws):
        weights = np.bincount(rng.integers(len(marks), size=len(marks)), minlength=len(marks)).astype(np.float64)
        found = []
        for column in range(marks.shape[1]):
            counted = weights if difficult_are_negative else np.where(marks[:, column] == 0, 0.0, weights)
            # A rare class may be missing from a draw.
            if counted[marks[:, column] == 1].any():
                found.append(average_precision(marks[:, column] == 1, scores[:, column], counted))
        means[draw] = np.mean(found, axis=0)
    limits = 100 * np.quantile(means, [0.025, 0.975], axis=0)
    return {
        "method": f"bootstrap, 95%, of the test images alone, {draws} draws",
        "map_11point": [round(float(limit), 4) for limit in limits[:, 0]],
        "map_area": [round(float(limit), 4) for limit in limits[:, 1]],
    }


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
            recall, precision = _curve(row, numbers, np.ones(len(row)))
            found.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    if not found:
        raise ValueError("no image shows any class")
    return float(np.mean(found))


def labels_of(images: Images) -> MultiLabel:
    """The labels of a split of VOC 2007."""
    assert images.multilabel is not None
    return images.multilabel


def precision_table(used: UsedSplits, area: np.ndarray, eleven_point: np.ndarray, **more: Any) -> dict[str, Any]:
    """Average precision by class, in percent."""
    labels = labels_of(used.images["test"])
    return {
        "classes": list(labels.classes),
        "positives": (labels.values == 1).sum(0).tolist(),
        "ap_area": area.tolist(),
        "ap_11point": eleven_point.tolist(),
        **more,
    }
