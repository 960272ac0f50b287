"""Average precision: cases computed by hand, a plain loop, and scikit-learn where the form is the same."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluation.tasks.voc07.precision import average_precision, mean_precision_intervals, per_image_precision


def test_by_hand() -> None:
    # Ranks: + - + + -. Recall 1/3, 1/3, 2/3, 1, 1; precision 1, 1/2, 2/3, 3/4, 3/5; interpolated 1, 3/4, 3/4, 3/4, 3/5.
    eleven_point, area = average_precision([True, False, True, True, False], [9, 8, 7, 6, 5])
    assert area == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    # Recalls 0 to .3 have precision 1, those from .4 to 1 have 3/4.
    assert eleven_point == pytest.approx((4 * 1 + 7 * 3 / 4) / 11)


def test_the_recall_of_a_point_is_reached_in_spite_of_rounding() -> None:
    # Ten positives: the third one brings the recall to .3, which must count for the point .3.
    truth = [True] * 3 + [False] + [True] * 7
    eleven_point, area = average_precision(truth, np.arange(11, 0, -1))
    assert area == pytest.approx(0.3 + 0.7 * 10 / 11)
    assert eleven_point == pytest.approx((4 * 1 + 7 * 10 / 11) / 11)


def test_extremes() -> None:
    assert average_precision([True, True, False], [3, 2, 1]) == (pytest.approx(1), pytest.approx(1))
    assert average_precision([False, False, True], [3, 2, 1]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    # All scores equal: all images come in together, whatever their order.
    assert average_precision([True, False, False, False], [1, 1, 1, 1]) == (pytest.approx(0.25), pytest.approx(0.25))
    assert average_precision([False, False, False, True], [1, 1, 1, 1]) == (pytest.approx(0.25), pytest.approx(0.25))


def plain(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Both forms in loops, for scores that all differ."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    curve, hits = [], 0
    for rank, index in enumerate(order, start=1):
        hits += bool(truth[index])
        curve.append((hits / truth.sum(), hits / rank))
    area, before = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[position:])
        before = recall
    points = [max((p for r, p in curve if r >= t / 10 - 1e-9), default=0.0) for t in range(11)]
    return sum(points) / 11, area


@pytest.mark.parametrize("count", [7, 60, 301])
def test_both_forms_are_those_of_plain_loops(count: int) -> None:
    rng = np.random.default_rng(count)
    truth = rng.random(count) < 0.3
    truth[0] = True
    scores = rng.normal(size=count) + truth
    assert average_precision(truth, scores) == pytest.approx(plain(truth, scores), abs=1e-12)
    # The area is at least scikit-learn's, which does not interpolate.
    assert average_precision(truth, scores)[1] >= average_precision_score(truth, scores) - 1e-12


def test_per_image_precision_is_the_mean_of_scikit_learns_over_images() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((40, 20)) < 0.1
    truth[0], truth[1, 3] = False, True
    scores = rng.normal(size=(40, 20)).round(1)  # with ties
    expected = np.mean([average_precision_score(t, s) for t, s in zip(truth, scores, strict=True) if t.any()])
    assert per_image_precision(truth, scores) == pytest.approx(expected, abs=1e-12)
    # By hand: two images whose classes rank first and second of three, then third.
    assert per_image_precision([[1, 1, 0], [0, 0, 1]], [[3, 2, 1], [3, 2, 1]]) == pytest.approx((1 + 1 / 3) / 2)


def test_per_image_precision_says_nothing_about_a_class() -> None:
    # Each image ranks its own class first, but over images the class is ranked last: the measures disagree completely.
    truth, scores = [[1, 0], [0, 1]], [[2, 1], [8, 9]]
    assert per_image_precision(truth, scores) == 1
    assert average_precision([1, 0], [2, 8]) == (pytest.approx(0.5), pytest.approx(0.5))


def test_no_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="no image shows the class"):
        average_precision([False, False], [1, 2])
    with pytest.raises(ValueError, match="do not go with"):
        average_precision([True], [1, 2])
    with pytest.raises(ValueError, match="no image shows any class"):
        per_image_precision([[0, 0]], [[1, 2]])


def test_weights_are_copies_of_images() -> None:
    rng = np.random.default_rng(0)
    truth, scores, weights = rng.random(30) < 0.4, rng.normal(size=30).round(1), rng.integers(0, 4, 30)
    copies = np.repeat(np.arange(30), weights)
    assert average_precision(truth, scores, weights) == pytest.approx(average_precision(truth[copies], scores[copies]), abs=1e-12)
    # The first images may not count at all.
    assert average_precision([True, False, True], [3, 2, 1], [0, 0, 1]) == (pytest.approx(1), pytest.approx(1))


def test_intervals_hold_the_measure_and_shrink_with_more_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (60, 960):
        marks = np.where(rng.random((count, 3)) < 0.4, 1, -1).astype(np.int8)
        marks[rng.random((count, 3)) < 0.05] = 0
        scores = rng.normal(size=(count, 3)) + (marks == 1)
        found = mean_precision_intervals(marks, scores, draws=100)
        kept = [marks[:, column] != 0 for column in range(3)]
        each = [average_precision(marks[rows, c] == 1, scores[rows, c]) for c, rows in enumerate(kept)]
        for name, value in zip(("map_11point", "map_area"), 100 * np.mean(each, axis=0), strict=True):
            low, high = found[name]
            assert low < value < high
        widths.append(found["map_area"][1] - found["map_area"][0])
    assert 2.5 < widths[0] / widths[1] < 6  # the square root of 16 is 4
