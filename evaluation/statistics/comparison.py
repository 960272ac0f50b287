"""Whether one model is better than another on the same test images, or only luckier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from evaluation.statistics.intervals import CONFIDENCE, wilson
from evaluation.statistics.per_image import unpack
from zoo.results import Result


@dataclass(frozen=True)
class Difference:
    """Two models' answers on the same N images, compared image by image.

    Attributes
    ----------
    only_first, only_second
        Images that one of them alone answers rightly.
    percent
        Accuracy of the first minus that of the second, in points.
    low, high
        Its confidence interval (95 %), in points.
    p
        Two-sided p value of McNemar's exact test: how often two equally good models would differ at least as much on such images.
    """

    only_first: int
    only_second: int
    percent: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < 1 - CONFIDENCE


def compare_answers(first: ArrayLike, second: ArrayLike) -> Difference:
    """Compare two models on the same images.

    The test is McNemar's (Psychometrika 12, 1947) in its exact form: among the images that one model alone answers rightly, each of two
    equally good models has half. The interval is Newcombe's for paired proportions without continuity correction (Statistics in Medicine
    17, 1998, method 10). Both see the chance of the test images alone, not that of the training.

    Parameters
    ----------
    first, second
        bool (N,), or 0 and 1: whether each image was answered rightly.

    Raises
    ------
    ValueError
        Arrays of different lengths, without images, or of other values (such as the predicted classes).
    """
    a, b = _answers(first), _answers(second)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"answers must be two arrays of one length, not of shapes {a.shape} and {b.shape}")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    low, high = _newcombe(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()))
    return Difference(only_first, only_second, 100 * (only_first - only_second) / len(a), 100 * low, 100 * high, p)


def _answers(values: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(values)
    if array.size and not np.isin(array, (0, 1)).all():
        raise ValueError("answers are true or false: whether an image was answered rightly, not what was answered")
    return array.astype(bool)


def _newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Newcombe's interval of the difference of two paired proportions, as shares."""
    total = both + only_first + only_second + neither
    p1, p2 = (both + only_first) / total, (both + only_second) / total
    low1, high1 = (limit / 100 for limit in wilson(both + only_first, total))
    low2, high2 = (limit / 100 for limit in wilson(both + only_second, total))
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    correlation = 0.0
    if margins:
        product = float(both * neither - only_first * only_second)
        if product > total / 2:
            product -= total / 2
        elif product > 0:
            product = 0
        correlation = product / margins**0.5
    below = (p1 - low1) ** 2 - 2 * correlation * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (high1 - p1) ** 2 - 2 * correlation * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    return p1 - p2 - max(below, 0.0) ** 0.5, p1 - p2 + max(above, 0.0) ** 0.5


def compare_results(results: Sequence[Result]) -> list[tuple[Result, Result, Difference]]:
    """The best result by its headline beside each of the others, the nearest one first; those without answers image by image are left out.

    Results are comparable that measured the same metric on the same test images.
    """
    metric, data = results[0].headline.metric, results[0].data
    answered = [(result, unpack(result, metric)) for result in results if result.data.splits == data.splits]
    ranked = sorted(
        ((result, right) for result, right in answered if right is not None and result.headline.metric == metric),
        key=lambda pair: -pair[0].headline.value,
    )
    return [(ranked[0][0], result, compare_answers(ranked[0][1], right)) for result, right in ranked[1:]]
