"""Arrays of any numbers, order and memory give what plain float32 ones give, in every public function that takes them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluation import (
    average_precision,
    choose_pseudo_labels,
    cluster_scores,
    compare_answers,
    evaluate_clustering,
    evaluate_knn,
    evaluate_low_shot,
    evaluate_svm,
    fit_logistic_regression,
    top_k,
    train_linear,
)
from evaluation.arrays import as_matrix
from evaluation.clustering import kmeans
from evaluation.extraction.checks import check_finite
from evaluation.search import neighbours_of_all
from evaluation.tasks.cluster.presets import CLUSTER_PRESETS
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.voc07.svm import SvmSettings, shared_images
from zoo.data.base import Level, MultiLabel
from zoo.errors import UserError

ROWS, WIDTH, CLASSES = 60, 8, 3
# Whole numbers that every type below holds exactly.
VALUES = np.random.default_rng(0).integers(0, 60, (ROWS, WIDTH))
LABELS = np.arange(ROWS) % CLASSES
MARKS = MultiLabel(np.where(LABELS[:, None] == np.arange(CLASSES), 1, -1).astype(np.int8), ("a", "b", "c"))
RATE = LINEAR_PRESETS["moco"].change(epochs=2, lr=0.001)


def _read_only(folder: Path) -> NDArray[Any]:
    np.save(folder / "rows.npy", VALUES.astype(np.float32))
    return np.load(folder / "rows.npy", mmap_mode="r")


KINDS: dict[str, Callable[[Path], Any]] = {
    "float64": lambda _: VALUES.astype(np.float64),
    "float16": lambda _: VALUES.astype(np.float16),
    "long double": lambda _: VALUES.astype(np.longdouble),
    "other byte order": lambda _: VALUES.astype(">f4"),
    "int64": lambda _: VALUES,
    "int8": lambda _: VALUES.astype(np.int8),
    "uint16": lambda _: VALUES.astype(np.uint16),
    "list": lambda _: VALUES.tolist(),
    "reversed twice": lambda _: VALUES[::-1].astype(np.float32).copy()[::-1],
    "columns first": lambda _: np.asfortranarray(VALUES.astype(np.float32)),
    "every other column": lambda _: np.repeat(VALUES.astype(np.float32), 2, axis=1)[:, ::2],
    "mapped, read-only": _read_only,
    "bfloat16": lambda _: torch.from_numpy(VALUES).bfloat16(),
    "with gradient": lambda _: torch.from_numpy(VALUES.astype(np.float32)).requires_grad_(),
    "transposed": lambda _: torch.from_numpy(VALUES.T.astype(np.float32).copy()).T,
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "top_k": lambda rows: [part.tolist() for part in top_k(rows, rows, 4, normalize=True)],
    "top_k, inner products": lambda rows: top_k(rows, rows, 4, exclude_self=True)[1].tolist(),
    "neighbours_of_all": lambda rows: neighbours_of_all(rows, 3, total=ROWS, chunk=16, normalize=True)[1].tolist(),
    "evaluate_knn": lambda rows: evaluate_knn(rows, LABELS, rows, LABELS, k=[2, 5]).scores[5].predictions.tolist(),
    "train_linear": lambda rows: train_linear(rows, LABELS, rows, LABELS, preset=RATE).losses.tolist(),
    "fit_logistic_regression": lambda rows: fit_logistic_regression(rows, LABELS, c=0.1).weight.tolist(),
    "kmeans": lambda rows: kmeans(rows, 4, seed=0).assignment.tolist(),
    "evaluate_clustering": lambda rows: evaluate_clustering(rows, {"class": Level(LABELS, ("a", "b", "c"))}, clusters=4)[4].objective,
    "choose_pseudo_labels": lambda rows: choose_pseudo_labels(rows, max_entropy=1.0, per_class=4).positions.tolist(),
    "evaluate_svm": lambda rows: evaluate_svm(rows, MARKS, rows, MARKS, SvmSettings(costs=(0.1,))).area.tolist(),
    "evaluate_low_shot": lambda rows: evaluate_low_shot(
        rows, MARKS, rows, MARKS, SvmSettings(costs=(0.1,)), shots=2, draw=shared_images, draws=1
    ).area.tolist(),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_kind_of_array_gives_the_same(function: str, tmp_path: Path) -> None:
    work = FUNCTIONS[function]
    expected = work(torch.from_numpy(VALUES.astype(np.float32)))
    for name, make in KINDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = work(make(tmp_path))
        # Sums over arrays of another order in memory may end in another last bit.
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)


WRONG = {
    "complex": (VALUES.astype(np.complex64), "must be real numbers, not complex64"),
    "complex tensor": (torch.zeros(ROWS, WIDTH, dtype=torch.complex64), "must be real numbers, not torch.complex64"),
    "text": (VALUES.astype(str), "must be real numbers, not <U21"),
    "objects": (VALUES.astype(object), "must be real numbers, not object"),
    "one vector": (np.zeros(ROWS), r"must be a matrix \(N, D\) .* not of shape \(60,\)"),
    "maps": (np.zeros((ROWS, 2, 4)), r"must be a matrix \(N, D\) .* not of shape \(60, 2, 4\)"),
    "no columns": (np.zeros((ROWS, 0)), r"must be a matrix \(N, D\) .* not of shape \(60, 0\)"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_matrix_of_numbers_is_refused_in_words(function: str) -> None:
    for rows, message in WRONG.values():
        with pytest.raises(ValueError, match=message):
            FUNCTIONS[function](rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_numbers_that_mean_nothing_are_refused(function: str, value: float) -> None:
    rows = VALUES.astype(np.float64)
    rows[[7, 9], 3] = value
    if function in ("evaluate_svm", "evaluate_low_shot") and value == 1e200:
        return  # liblinear computes in float64
    with pytest.raises(UserError, match=r"2 of 60 .* first in row 7|2 train features hold NaN or infinity, first in row 7|point 7 "):
        FUNCTIONS[function](rows)


def test_a_finite_sum_is_not_taken_for_finite_numbers() -> None:
    large = torch.full((4, 3), 3e38)  # the sum is infinite, and each is a number
    check_finite(large, "train")
    with pytest.raises(UserError, match=r"1 of 4 train feature vectors .* first in row 2"):
        check_finite(torch.where(torch.arange(4)[:, None] == 2, -torch.inf, large), "train")


def test_one_row_and_labels_of_any_kind() -> None:
    one = evaluate_knn(VALUES[:1], [4], VALUES[:1], [4], k=20)
    assert (one.scores[20].correct, one.scores[20].k_used, one.clamped) == (1, 1, {20: 1})
    for labels in (LABELS.astype(np.uint8), LABELS.tolist(), torch.from_numpy(LABELS), LABELS.astype(np.int64)[::-1][::-1]):
        assert evaluate_knn(VALUES, labels, VALUES, labels, k=np.int64(1)).scores[1].correct == ROWS
    # Classes without an image are classes.
    assert len(evaluate_knn(VALUES, LABELS + 2, VALUES, LABELS + 2, k=1).class_total) == CLASSES + 2
    assert train_linear(VALUES, LABELS + 2, VALUES, LABELS + 2, preset=RATE).last.class_total.tolist() == [0, 0, 20, 20, 20]
    for wrong, message in ((LABELS / 1.0, "whole numbers"), (LABELS - 1, "from 0 on"), (LABELS + 10**9, "number the classes from 0 on")):
        with pytest.raises(ValueError, match=message):
            evaluate_knn(VALUES, wrong, VALUES, wrong, k=1)
    with pytest.raises(ValueError, match=r"least 1 row and one column, not of shape \(0, 8\)"):
        train_linear(VALUES[:0], LABELS[:0], VALUES, LABELS)
    with pytest.raises(ValueError, match="train features have 8 columns and test features 7"):
        train_linear(VALUES, LABELS, VALUES[:, :7], LABELS)


@pytest.mark.parametrize("k", [0, 2.5, [], "20"])
def test_k_that_is_no_number_of_neighbours_is_refused(k: Any) -> None:
    with pytest.raises(ValueError, match="k must be at least one whole number from 1 on"):
        evaluate_knn(VALUES, LABELS, VALUES, LABELS, k=k)


def test_presets_take_one_number_alone() -> None:
    assert KNN_PRESETS["dino"].change(k=20) == KNN_PRESETS["dino"].change(k=[20])
    assert CLUSTER_PRESETS["hirl"].change(clusters=7).k == (7,)
    assert LINEAR_PRESETS["moco"].change(lr=0.1).rates == (0.1,)
    assert LINEAR_PRESETS["logreg"].change(c=2).rates == (2,)


def test_arrays_that_are_no_features() -> None:
    with pytest.raises(ValueError, match="true or false: whether an image was answered rightly"):
        compare_answers(LABELS, LABELS)
    assert compare_answers([1, 0, 1.0], [True, True, True]).only_second == 1
    with pytest.raises(ValueError, match="1 scores are no numbers"):
        average_precision([True, False], [np.nan, 0.5])
    with pytest.raises(ValueError, match="whole numbers from 0 on"):
        cluster_scores(LABELS / 2, LABELS)
    shared = as_matrix(VALUES, "rows")
    assert shared.data_ptr() == VALUES.ctypes.data
