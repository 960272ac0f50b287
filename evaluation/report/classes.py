"""Accuracy by class, and which classes are taken for which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.at_hand import AtHand, Missing
from evaluation.report.details import numbers, table, texts
from evaluation.report.groups import Column, Group, Model, metric_label
from evaluation.statistics.intervals import wilson
from zoo.data import Images
from zoo.errors import UserError
from zoo.results import Result

# A matrix of more classes than this cannot be read.
_LARGEST_MATRIX = 30
_PAIRS = 10
# On a CPU no more products of numbers than this are summed for a model's votes: some minutes.
_MOST_PRODUCTS = 4 * 10**12
_HEADLINE = re.compile(r"top1_k(\d+)")


@dataclass(frozen=True)
class ClassTable:
    """A number for each class and model.

    Attributes
    ----------
    title
        Of the protocol.
    unit
        What the numbers are.
    classes, totals
        Names, and test images of each (positives, for average precision).
    models
        Of the columns.
    values
        For each class one number per model, in percent; None for a class without test images.
    texts
        What is shown when a number is pointed at.
    """

    title: str
    unit: str
    classes: tuple[str, ...]
    totals: tuple[int, ...]
    models: tuple[Model, ...]
    values: tuple[tuple[float | None, ...], ...]
    texts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Confusion:
    """How often images of one group are taken for another.

    Attributes
    ----------
    level
        The label level.
    names
        Its G groups.
    counts
        int64 array (G, G): test images by true group (row) and predicted group (column).
    """

    level: str
    names: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Percent of each row; 0 for groups without images."""
        totals = self.counts.sum(1, keepdims=True)
        shares: NDArray[np.float64] = 100 * self.counts / np.maximum(totals, 1)
        return shares


@dataclass(frozen=True)
class Confusions:
    """A kNN result's confusions.

    Attributes
    ----------
    model
        Whose they are.
    matrices
        By level, coarse to fine.
    pairs
        The most frequent mistakes: true class, predicted class, images, images of the true class.
    remark
        Empty, or what a reader must know.
    """

    model: Model
    matrices: tuple[Confusion, ...]
    pairs: tuple[tuple[str, str, int, int], ...]
    remark: str


def class_tables(group: Group) -> list[ClassTable]:
    """Accuracy (or average precision) by class of each protocol whose results hold it."""
    tables = []
    for column in group.columns:
        found = [(row, known) for row in group.rows if (known := _per_class(group, row, column)) is not None]
        # A table has one list of classes; results with another one would be another data set.
        found = [(row, known) for row, known in found if known[1:3] == found[0][1][1:3]]
        if found:
            unit, classes, totals = found[0][1][:3]
            values = tuple(zip(*(known[3] for _, known in found), strict=True))
            shown = tuple(zip(*(known[4] for _, known in found), strict=True))
            tables.append(ClassTable(column.label, unit, classes, totals, tuple(row for row, _ in found), values, shown))
    return tables


def confusion_matrix(truth: NDArray[np.int64], predicted: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """int64 array (size, size): how often ``truth`` (N,), the row, was predicted as ``predicted`` (N,), the column."""
    return np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)


def confusions(group: Group, at_hand: AtHand) -> tuple[list[Confusions], list[tuple[str, Missing]]]:
    """Of each model's newest kNN result; the votes are counted again from its features."""
    found: list[Confusions] = []
    absent: list[tuple[str, Missing]] = []
    for row in group.rows:
        column = next((column for column in group.columns if column.task == "knn" and (row, column) in group.results), None)
        cell = None if column is None else group.cell(row, column)
        if cell is None:
            absent.append((row.label, Missing("votes are counted again from a kNN result, and there is none", "add one of `--task knn`")))
            continue
        try:
            made = _confusions(row, cell.entries[0].result, at_hand)
        except UserError as error:
            made = Missing(str(error), "evaluate the model again")
        if isinstance(made, Missing):
            absent.append((row.label, made))
        else:
            found.append(made)
    return found, absent


def _confusions(row: Model, result: Result, at_hand: AtHand) -> Confusions | Missing:
    train, test = at_hand.images(result, "train"), at_hand.images(result, "test")
    if isinstance(train, Missing):
        return train
    if isinstance(test, Missing):
        return test
    votes = _votes(result, train, test, at_hand)
    if isinstance(votes, Missing):
        return votes
    asked, predicted = votes
    own = test.level(result.data.level)
    matrices = []
    for name, level in test.levels.items():
        if len(level.classes) > len(own.classes) or len(level.classes) > _LARGEST_MATRIX:
            continue
        group_of = _groups_of_classes([train, test], result.data.level, name)
        if group_of is not None:
            counts = confusion_matrix(level.labels[asked], group_of[predicted], len(level.classes))
            matrices.append(Confusion(name, level.classes, counts))
    counts = confusion_matrix(own.labels[asked], predicted, len(own.classes))
    return Confusions(row, tuple(matrices), _pairs(counts, own.classes), _remark(result, counts, len(test)))


def _remark(result: Result, counts: NDArray[np.int64], images: int) -> str:
    right, said = int(np.trace(counts)), _headline_count(result)
    if counts.sum() < images:
        return f"counted on {counts.sum():,} of the {images:,} test images, evenly spread; on a GPU (--device cuda) all are counted"
    return "" if said in (None, right) else f"these votes give {right} right answers, and the result has {said}"


def _votes(result: Result, train: Images, test: Images, at_hand: AtHand) -> tuple[NDArray[np.int64], NDArray[np.int64]] | Missing:
    """Positions of test images, int64 (Q,), and the predictions of the headline's k for them."""
    features = []
    for role in ("train", "test"):
        found = at_hand.features(result, role)
        if isinstance(found, Missing):
            return found
        features.append(found)
    from evaluation.tasks.knn.votes import evaluate_knn

    level, protocol = result.data.level, result.protocol
    match = _HEADLINE.fullmatch(result.headline.metric)
    unclear = Missing("its protocol is not one that this version can count again", "evaluate the model with this version")
    if match is None or protocol.get("similarity") not in ("cosine", "dot"):
        return unclear
    k, device = int(match[1]), at_hand.place()
    asked = np.arange(len(test))
    most = _MOST_PRODUCTS // features[0].numel()
    if device.type == "cpu" and len(asked) > most:
        asked = np.linspace(0, len(test) - 1, max(1, most)).round().astype(np.int64)
    try:
        evaluation = evaluate_knn(
            features[0],
            train.level(level).labels,
            features[1][asked],
            test.level(level).labels[asked],
            k=[k],
            temperature=protocol["temperature"],
            weight=protocol["weight"],
            num_classes=result.data.classes,
            normalize=protocol["similarity"] == "cosine",
            device=device,
        )
    except (KeyError, TypeError, ValueError):
        return unclear
    return asked, evaluation.scores[k].predictions


def _groups_of_classes(splits: Sequence[Images], level: str, coarser: str) -> NDArray[np.int64] | None:
    """The group of each class of ``level`` on a coarser level, int64 (C,); None where a class lies in several."""
    group_of = np.zeros(len(splits[0].level(level).classes), dtype=np.int64)
    for images in splits:
        group_of[images.level(level).labels] = images.level(coarser).labels
    consistent = all((group_of[images.level(level).labels] == images.level(coarser).labels).all() for images in splits)
    return group_of if consistent else None


def _pairs(counts: NDArray[np.int64], names: Sequence[str]) -> tuple[tuple[str, str, int, int], ...]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    truths, taken = np.unravel_index(order, wrong.shape)
    return tuple(
        (names[truth], names[other], int(wrong[truth, other]), int(counts[truth].sum()))
        for truth, other in zip(truths, taken, strict=True)
        if wrong[truth, other]
    )


def _headline_count(result: Result) -> int | None:
    """How many right answers a result's headline stands for, where its counts say so."""
    counts: Any = result.counts.get("correct")
    count = counts.get(result.headline.metric) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else None


_PerClass = tuple[str, tuple[str, ...], tuple[int, ...], tuple[float | None, ...], tuple[str, ...]]


def _per_class(group: Group, row: Model, column: Column) -> _PerClass | None:
    """Unit, classes, totals, values and texts of the newest result."""
    cell = group.cell(row, column)
    if cell is None:
        return None
    known = table(cell.entries[0].result, "per_class")
    classes = texts(known.get("classes"))
    if classes is None:
        return None
    precisions, positives = numbers(known.get("ap_area"), len(classes)), numbers(known.get("positives"), len(classes))
    if precisions is not None and positives is not None:
        totals = tuple(map(int, positives))
        return "average precision (area), %", tuple(classes), totals, tuple(precisions), tuple(f"{value:.2f} %" for value in precisions)
    all_counts = table(cell.entries[0].result, "per_class", "correct")
    metric = column.metric if column.metric in all_counts else next(iter(all_counts), "")
    right, total = numbers(all_counts.get(metric), len(classes)), numbers(known.get("total"), len(classes))
    if right is None or total is None or any(count > most or count < 0 for count, most in zip(right, total, strict=True)):
        return None
    values, shown = [], []
    for count, most in zip(map(int, right), map(int, total), strict=True):
        values.append(100 * count / most if most else None)
        if most:
            low, high = wilson(count, most)
            shown.append(f"{count} of {most}; 95 % interval {low:.1f} to {high:.1f}")
        else:
            shown.append("no test images")
    return f"{metric_label(metric)}, %", tuple(classes), tuple(map(int, total)), tuple(values), tuple(shown)
