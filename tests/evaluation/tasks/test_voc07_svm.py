"""Support vector machines per class: against scikit-learn in a plain loop, and the draws of few images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from evaluation.tasks.voc07.precision import average_precision
from evaluation.tasks.voc07.svm import SvmSettings, evaluate_low_shot, evaluate_svm, own_negatives, shared_images
from zoo.data.base import MultiLabel
from zoo.errors import UserError
from zoo.randomness import generator

NAMES = ("even", "small", "zero", "odd or nine")


def digit_marks() -> tuple[np.ndarray, MultiLabel, np.ndarray, MultiLabel]:
    """Features of digits, and what each shows of four properties; some are marked as hard to see."""
    digits = load_digits()
    labels = digits.target
    values = np.stack([labels % 2 == 0, labels < 4, labels == 0, (labels % 2 == 1) | (labels == 9)], axis=1) * 2 - 1
    values = values.astype(np.int8)
    hard = np.random.default_rng(0).random(values.shape) < 0.03
    values[hard] = 0
    features = digits.data + np.random.default_rng(1).normal(0, 6, digits.data.shape)
    train, test = slice(0, 300), slice(300, 600)
    return features[train], MultiLabel(values[train], NAMES), features[test], MultiLabel(values[test], NAMES)


def plain(costs: tuple[float, ...], difficult_are_negative: bool) -> tuple[list[float], list[float], list[float]]:
    """Both forms and the chosen cost of each class, in a loop over scikit-learn."""
    train, train_labels, test, test_labels = digit_marks()
    train, test = (x / (np.linalg.norm(x, axis=1)[:, None] + 1e-5) for x in (train, test))
    eleven, area, chosen = [], [], []
    for column in range(len(NAMES)):
        signs = train_labels.values[:, column].copy().astype(int)
        signs[signs == 0] = -1
        machine = lambda cost: LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=0)  # noqa: E731
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            valued = [cross_val_score(machine(c), train, signs, cv=3, scoring="average_precision").mean() for c in costs]
            cost = costs[int(np.argmax(valued))]
            ranks = machine(cost).fit(train, signs).decision_function(test)
        marks = test_labels.values[:, column]
        kept = np.full(len(marks), True) if difficult_are_negative else marks != 0
        e, a = average_precision(marks[kept] == 1, ranks[kept])
        eleven.append(100 * e)
        area.append(100 * a)
        chosen.append(cost)
    return eleven, area, chosen


@pytest.mark.parametrize("difficult_are_negative", [False, True])
def test_svm_is_that_of_a_plain_loop_over_scikit_learn(difficult_are_negative: bool) -> None:
    settings = SvmSettings(costs=(0.01, 1.0, 100.0), difficult_are_negative=difficult_are_negative)
    scores = evaluate_svm(*digit_marks(), settings)
    eleven, area, chosen = plain(settings.costs, difficult_are_negative)
    np.testing.assert_allclose(scores.eleven_point, eleven, atol=1e-9)
    np.testing.assert_allclose(scores.area, area, atol=1e-9)
    assert list(scores.costs) == chosen
    assert len(set(chosen)) > 1
    assert scores.map_area == pytest.approx(np.mean(area))
    assert scores.map_11point == pytest.approx(np.mean(eleven))


def test_one_cost_is_not_validated() -> None:
    scores = evaluate_svm(*digit_marks(), SvmSettings(costs=(0.5,)))
    assert scores.costs == (0.5,) * 4
    assert scores.unconverged == 0
    few = evaluate_svm(*digit_marks(), SvmSettings(costs=(100.0,), iterations=3))
    assert few.unconverged == 4


def test_own_negatives_are_as_many_as_vissl_draws() -> None:
    values = digit_marks()[1].values
    drawn = own_negatives(values, 5, generator(0, "test"))
    for column, rows in zip(values.T, drawn, strict=True):
        assert (column[rows] == 1).sum() == 5
        assert (column[rows] == -1).sum() == 15
        assert len(set(rows.tolist())) == 20
    with pytest.raises(UserError, match="60 images of each class take 180"):
        own_negatives(values, 60, generator(0, "test"))


def test_shared_images_are_those_that_show_each_class() -> None:
    values = digit_marks()[1].values
    drawn = shared_images(values, 5, generator(0, "test"))
    assert all(np.array_equal(rows, drawn[0]) for rows in drawn)
    assert len(drawn[0]) == 20
    for column in range(4):
        assert (values[drawn[0][5 * column : 5 * column + 5], column] == 1).all()


def test_few_images_are_learnt_from_at_every_cost() -> None:
    train, train_labels, test, test_labels = digit_marks()
    settings = SvmSettings(costs=(0.01, 1.0))
    found = evaluate_low_shot(train, train_labels, test, test_labels, settings, shots=4, draw=own_negatives, draws=3, seed=7)
    assert found.area.shape == found.eleven_point.shape == (3, 2)
    unit = lambda x: x / (np.linalg.norm(x, axis=1)[:, None] + 1e-5)  # noqa: E731
    for number in range(3):
        rows = own_negatives(train_labels.values, 4, generator(7, "low-shot images", index=number, epoch=4))
        for position, cost in enumerate(settings.costs):
            area = []
            for column in range(4):
                signs = np.where(train_labels.values[rows[column], column] == 1, 1, -1)
                machine = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=7)
                ranks = machine.fit(unit(train[rows[column]]), signs).decision_function(unit(test))
                kept = test_labels.values[:, column] != 0
                area.append(100 * average_precision(test_labels.values[kept, column] == 1, ranks[kept])[1])
            assert found.area[number, position] == pytest.approx(np.mean(area), abs=1e-9)
    assert found.best == int(found.area.mean(0).argmax())
    assert len(set(found.area[:, 0].tolist())) == 3
    # More images of each class, more precision.
    more = evaluate_low_shot(train, train_labels, test, test_labels, settings, shots=20, draw=shared_images, draws=3)
    assert more.area.mean(0).max() > found.area.mean(0).max()


def test_mistakes_are_one_sentence() -> None:
    train, train_labels, test, test_labels = digit_marks()
    settings = SvmSettings(costs=(0.5,))
    none = MultiLabel(np.where(np.arange(4) == 2, -1, test_labels.values).astype(np.int8), NAMES)
    with pytest.raises(UserError, match="class 'zero' is shown by 0 test images, and 1 are needed"):
        evaluate_svm(train, train_labels, test, none, settings)
    with pytest.raises(UserError, match=r"class 'zero' is shown by \d+ training images, and 90 are needed"):
        evaluate_low_shot(train, train_labels, test, test_labels, settings, shots=90, draw=shared_images)
    everywhere = MultiLabel(np.ones_like(train_labels.values), NAMES)
    with pytest.raises(UserError, match="'even' is shown by all training images"):
        evaluate_svm(train, everywhere, test, test_labels, settings)
    spoiled = test.copy()
    spoiled[5, 1] = np.nan
    with pytest.raises(UserError, match="1 test features hold NaN or infinity, first in row 5"):
        evaluate_svm(train, train_labels, spoiled, test_labels, settings)
    with pytest.raises(ValueError, match="do not go with"):
        evaluate_svm(train[:9], train_labels, test, test_labels, settings)
