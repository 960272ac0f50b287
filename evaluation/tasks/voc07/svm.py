"""One linear support vector machine per class on frozen features, with all images or a few of each class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.arrays import as_matrix
from evaluation.parallel import ALONE, Processes
from evaluation.tasks.voc07.precision import average_precision
from zoo.cores import available_cores
from zoo.data.base import MultiLabel
from zoo.errors import UserError
from zoo.randomness import generator

# Keeps a feature of length zero from being divided by zero (Goyal et al.'s benchmark and PCL add the same).
_NORM_FLOOR = 1e-5
_PURPOSE = "low-shot images"

Draw = Callable[[NDArray[np.int8], int, np.random.Generator], list[NDArray[np.int64]]]


@dataclass(frozen=True)
class SvmSettings:
    """How the machines are trained: squared hinge loss, L2 penalty, solved in the dual by liblinear.

    Attributes
    ----------
    costs
        The C that are tried. With several, each class takes the one of the best cross-validated precision on the training images.
    folds
        Of the cross-validation, stratified, in the images' order.
    positive_weight
        Weight of images that show the class, against 1 for the others.
    iterations
        At most so many.
    difficult_are_negative
        Whether images that show a class only as "difficult" count as not showing it when they are tested; else they are left out for that
        class, as the official evaluation does. In training they count as not showing it, as in all published protocols.
    """

    costs: tuple[float, ...]
    folds: int = 3
    positive_weight: float = 2.0
    iterations: int = 2000
    difficult_are_negative: bool = False


@dataclass(frozen=True, eq=False)
class SvmScores:
    """Average precision of each class, in percent.

    Attributes
    ----------
    eleven_point, area
        float64 arrays (C,) of the two forms (:func:`evaluation.tasks.voc07.precision.average_precision`).
    costs
        The C that each class took.
    decisions
        float64 (M, C): the test images' signed distances.
    unconverged
        Machines that had not converged after the iterations allowed.
    """

    eleven_point: NDArray[np.float64]
    area: NDArray[np.float64]
    costs: tuple[float, ...]
    decisions: NDArray[np.float64]
    unconverged: int

    @property
    def map_11point(self) -> float:
        return float(self.eleven_point.mean())

    @property
    def map_area(self) -> float:
        return float(self.area.mean())


def evaluate_svm(
    train_features: ArrayLike,
    train_labels: MultiLabel,
    test_features: ArrayLike,
    test_labels: MultiLabel,
    settings: SvmSettings,
    *,
    seed: int = 0,
    processes: Processes = ALONE,
    done: Callable[[int], None] = lambda count: None,
) -> SvmScores:
    """Train a machine per class on all training images, and rank the test images by it.

    The protocol is that of Goyal et al., "Scaling and benchmarking self-supervised visual representation learning" (ICCV 2019), as VISSL
    has it.

    Parameters
    ----------
    train_features, test_features
        (N, D) and (M, D); they are given unit length.
    train_labels, test_labels
        Of the same classes.
    settings
        Costs, cross-validation, weights.
    seed
        Of liblinear, which visits the images in random order.
    processes
        Share the classes among these processes; each makes the same call and gets the whole answer.
    done
        Called with the number of classes that were finished.

    Raises
    ------
    UserError
        Features that are not finite; a class that no training or test image shows, or fewer training images do than there are folds.
    ValueError
        Shapes that do not fit.
    """
    train, test = _features(train_features, train_labels, "train"), _features(test_features, test_labels, "test")
    _check_classes(train_labels, test_labels, settings)

    def one_class(column: int) -> tuple[float, float, float, NDArray[np.float64], int]:
        signs = np.where(train_labels.values[:, column] == 1, 1, -1)
        cost, failed = settings.costs[0], 0
        if len(settings.costs) > 1:
            precisions = []
            for candidate in settings.costs:
                precision, missed = _cross_validated(train, signs, candidate, settings, seed)
                precisions.append(precision)
                failed += missed
            cost = settings.costs[int(np.argmax(precisions))]
        ranks, missed = _decision(train, signs, test, cost, settings, seed)
        return *_tested(test_labels.values[:, column], ranks, settings), cost, ranks, failed + missed

    rows = _each_class(one_class, len(train_labels.classes), processes, done)
    eleven_point, area, costs, decisions, failed = zip(*rows, strict=True)
    return SvmScores(100 * np.array(eleven_point), 100 * np.array(area), costs, np.stack(decisions, axis=1), sum(failed))


@dataclass(frozen=True, eq=False)
class LowShotScores:
    """Mean average precision from a few images of each class, in percent.

    Attributes
    ----------
    costs
        The C that were tried.
    eleven_point, area
        float64 arrays (R, number of costs): of R independent draws.
    """

    costs: tuple[float, ...]
    eleven_point: NDArray[np.float64]
    area: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Position of the cost with the largest mean area over the draws: chosen *on the test images*, as VISSL and PCL report it."""
        return int(np.argmax(self.area.mean(0)))


def evaluate_low_shot(
    train_features: ArrayLike,
    train_labels: MultiLabel,
    test_features: ArrayLike,
    test_labels: MultiLabel,
    settings: SvmSettings,
    *,
    shots: int,
    draw: Draw,
    draws: int = 5,
    seed: int = 0,
    processes: Processes = ALONE,
    done: Callable[[int], None] = lambda count: None,
) -> LowShotScores:
    """:func:`evaluate_svm` with ``shots`` images of each class, for every cost (nothing is left to validate on), several times.

    Parameters
    ----------
    draw
        :func:`own_negatives` (VISSL) or :func:`shared_images` (PCL).
    draws
        Independent draws of the images.
    seed
        Draw r takes its images from the generator at (seed, "low-shot images", r, shots).

    Raises
    ------
    UserError
        As :func:`evaluate_svm`; and a class that fewer than ``shots`` training images show.
    """
    train, test = _features(train_features, train_labels, "train"), _features(test_features, test_labels, "test")
    _check_classes(train_labels, test_labels, settings, shots=shots)
    chosen = [draw(train_labels.values, shots, generator(seed, _PURPOSE, index=number, epoch=shots)) for number in range(draws)]

    def one_class(column: int) -> list[list[tuple[float, float]]]:
        found = []
        for images in chosen:
            rows = images[column]
            signs = np.where(train_labels.values[rows, column] == 1, 1, -1)
            ranks = [_decision(train[rows], signs, test, cost, settings, seed)[0] for cost in settings.costs]
            found.append([_tested(test_labels.values[:, column], one, settings) for one in ranks])
        return found

    table = 100 * np.array(_each_class(one_class, len(train_labels.classes), processes, done))  # classes, draws, costs, two forms
    means = table.mean(0)
    return LowShotScores(settings.costs, means[:, :, 0], means[:, :, 1])


def own_negatives(values: NDArray[np.int8], shots: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """VISSL's draw: for each class ``shots`` images that show it and (C - 1) times as many of its own that do not.

    Images that show the class only as "difficult" are never drawn.
    """
    others = (values.shape[1] - 1) * shots
    drawn = []
    for column in values.T:
        positives, negatives = np.flatnonzero(column == 1), np.flatnonzero(column == -1)
        if len(negatives) < others:
            raise UserError(
                f"{shots} images of each class take {others} that do not show it, and there are {len(negatives)}; take fewer shots"
            )
        drawn.append(np.concatenate([rng.choice(positives, shots, replace=False), rng.choice(negatives, others, replace=False)]))
    return drawn


def shared_images(values: NDArray[np.int8], shots: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """PCL's draw: ``shots`` images that show each class; all classes learn from all of these (one drawn for two classes counts twice)."""
    together = np.concatenate([rng.choice(np.flatnonzero(column == 1), shots, replace=False) for column in values.T])
    return [together] * values.shape[1]


def _each_class(work: Callable[[int], Any], classes: int, processes: Processes, done: Callable[[int], None]) -> list[Any]:
    """What ``work`` says of each class. liblinear lets go of Python's lock, so threads are enough."""
    mine: list[Any] = []
    error: UserError | None = None
    try:
        # Machines that have not converged are counted; the filter is the whole process's, so it is set once, around all threads.
        with warnings.catch_warnings(), ThreadPoolExecutor(max(1, available_cores() // processes.count)) as pool:
            warnings.filterwarnings("ignore", message="Liblinear failed to converge")
            share = processes.share(classes, 1)
            for result in pool.map(work, range(share.start, share.stop)):
                mine.append(result)
                done(1)
    except UserError as caught:
        error = caught
    processes.raise_first(error)
    return [result for share_of_one in processes.gather_objects(mine) for result in share_of_one]


def _decision(
    train: NDArray[np.float64], signs: NDArray[np.int64], test: NDArray[np.float64], cost: float, settings: SvmSettings, seed: int
) -> tuple[NDArray[np.float64], int]:
    """The test images' signed distances, and whether (1 or 0) the machine had not converged."""
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        C=cost,
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        class_weight={1: settings.positive_weight, -1: 1},
        max_iter=settings.iterations,
        random_state=seed,
    )
    machine.fit(train, signs)
    return machine.decision_function(test), int(machine.n_iter_ >= settings.iterations)


def _cross_validated(
    features: NDArray[np.float64], signs: NDArray[np.int64], cost: float, settings: SvmSettings, seed: int
) -> tuple[float, int]:
    """Mean over the folds of scikit-learn's (not interpolated) average precision, and how many machines had not converged."""
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold

    precisions, failed = [], 0
    for rest, fold in StratifiedKFold(settings.folds).split(features, signs):
        ranks, missed = _decision(features[rest], signs[rest], features[fold], cost, settings, seed)
        precisions.append(average_precision_score(signs[fold] == 1, ranks))
        failed += missed
    return float(np.mean(precisions)), failed


def _tested(marks: NDArray[np.int8], ranks: NDArray[np.float64], settings: SvmSettings) -> tuple[float, float]:
    kept = np.ones(len(marks), dtype=bool) if settings.difficult_are_negative else marks != 0
    return average_precision(marks[kept] == 1, ranks[kept])


def _features(values: ArrayLike, labels: MultiLabel, split: str) -> NDArray[np.float64]:
    """Of unit length, in float64, which liblinear computes in."""
    features = as_matrix(values, f"{split} features", least_rows=0).cpu().double().numpy()
    if len(features) != len(labels.values):
        raise ValueError(f"{split} features of shape {features.shape} do not go with {len(labels.values)} labels")
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise UserError(f"{len(bad)} {split} features hold NaN or infinity, first in row {bad[0]}; they cannot be learnt from")
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + _NORM_FLOOR)


def _check_classes(train: MultiLabel, test: MultiLabel, settings: SvmSettings, shots: int | None = None) -> None:
    if train.classes != test.classes:
        raise ValueError("training and test labels must be of the same classes")
    needed = shots or (settings.folds if len(settings.costs) > 1 else 1)
    for labels, split, least in ((train, "training", needed), (test, "test", 1)):
        for name, column in zip(labels.classes, labels.values.T, strict=True):
            shown = int((column == 1).sum())
            if shown < least:
                raise UserError(f"class '{name}' is shown by {shown} {split} images, and {least} are needed")
            if split == "training" and shown == len(column):
                raise UserError(f"class '{name}' is shown by all training images, so there is nothing to tell it from")
