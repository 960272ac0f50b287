"""Intervals and paired comparisons, against hand-made cases, SciPy and a bootstrap."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import comb

import numpy as np
import pytest

from evaluation.statistics.comparison import compare_answers, compare_results
from evaluation.statistics.intervals import wilson
from evaluation.statistics.per_image import pack, unpack
from zoo.results import Headline, Result

MakeResult = Callable[..., Result]


def answers(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first, second


def test_wilson_on_a_hand_made_case() -> None:
    # 8 of 10, z = 1.959964: centre (.8 + z²/20) / (1 + z²/10), half z / (1 + z²/10) sqrt(.016 + z²/400).
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (49.016, 94.332)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 100.0


def test_mcnemar_is_exact() -> None:
    found = compare_answers(*answers(50, 10, 2, 8))
    assert (found.only_first, found.only_second) == (10, 2)
    assert found.percent == pytest.approx(100 * 8 / 70)
    assert found.p == pytest.approx(2 * sum(comb(12, k) for k in range(3)) / 2**12)
    assert found.significant
    assert not compare_answers(*answers(50, 6, 4, 8)).significant
    assert compare_answers(*answers(5, 0, 0, 5)).p == 1.0
    reversed_ = compare_answers(*answers(50, 2, 10, 8))
    assert (reversed_.percent, reversed_.p) == (pytest.approx(-found.percent), pytest.approx(found.p))
    assert (reversed_.low, reversed_.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("table", [(700, 90, 60, 150), (400, 200, 210, 190), (950, 20, 5, 25)])
def test_the_interval_of_the_difference_agrees_with_a_bootstrap(table: tuple[int, int, int, int]) -> None:
    first, second = answers(*table)
    found = compare_answers(first, second)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(first), (4000, len(first)))
    differences = 100 * (first[rows].mean(1) - second[rows].mean(1))
    np.testing.assert_allclose([found.low, found.high], np.quantile(differences, [0.025, 0.975]), atol=0.35)
    assert found.low < found.percent < found.high


def test_a_packed_result_gives_its_answers_back(make_result: MakeResult) -> None:
    right = np.random.default_rng(0).random(1001) < 0.7
    result = replace(make_result("a" * 64), details={"per_image": pack({"top1_k20": right})}, counts={"test_images": 1001})
    again = Result.from_dict(json.loads(result.to_json()))
    unpacked = unpack(again, "top1_k20")
    assert unpacked is not None
    np.testing.assert_array_equal(unpacked, right)
    assert unpack(result, "top1_k1") is None


def test_the_best_is_compared_with_each_other(make_result: MakeResult) -> None:
    rng = np.random.default_rng(1)
    results = []
    for share in (0.5, 0.8, 0.7):
        right = rng.random(1000) < share
        value = 100 * right.mean()
        made = replace(make_result("a" * 64), headline=Headline("top1_k20", value), metrics={"top1_k20": value})
        results.append(replace(made, details={"per_image": pack({"top1_k20": right})}, counts={"test_images": 1000}))
    silent = replace(results[0], details={})
    pairs = compare_results([*results, silent])
    assert [(best is results[1], other is results[2] or other is results[0]) for best, other, _ in pairs] == [(True, True)] * 2
    assert [other is results[2] for _, other, _ in pairs] == [True, False]
    assert pairs[0][2].percent == pytest.approx(results[1].headline.value - results[2].headline.value)
