"""k-nearest-neighbour classification of frozen features.

Each test image is classified by the votes of its k nearest training images, a vote weighing exp(s / T), with s the cosine of the two
features (Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018; the form of Caron et al.,
"Emerging properties in self-supervised vision transformers", ICCV 2021). Nothing is trained and nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evaluation.arrays import Matrix, as_matrix
from evaluation.extraction.checks import check_classes, check_finite, checked_labels
from evaluation.parallel import ALONE, Processes
from evaluation.search import top_k
from evaluation.statistics.accuracy import TOP, Accuracy
from evaluation.tasks.knn.presets import KNN_PRESETS, Weight
from evaluation.tasks.task import several

_DEFAULT = KNN_PRESETS["dino"]
# Votes (queries x classes, float64) counted at a time.
_VOTES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class KnnScore(Accuracy):
    """What the votes of the k nearest neighbours say: of classes with equal votes the smaller one stands first.

    ``correct5`` counts queries whose label is among the five classes with the most votes, of those with any.

    Attributes
    ----------
    k
        As it was asked for.
    k_used
        The neighbours that voted: k, or the size of the bank where that is smaller.
    """

    k: int
    k_used: int

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100 * self.correct / self.total

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy in percent, or None."""
        return None if self.correct5 is None else 100 * self.correct5 / self.total


@dataclass(frozen=True, eq=False)
class KnnEvaluation:
    """kNN accuracy for several k.

    Attributes
    ----------
    scores
        By the k that was asked for, ascending.
    nearest
        int64 array (Q, largest k): each query's neighbours, the nearest first.
    """

    scores: dict[int, KnnScore]
    nearest: NDArray[np.int64]

    @property
    def class_total(self) -> NDArray[np.int64]:
        """int64 array (C,): queries of each class."""
        return next(iter(self.scores.values())).class_total

    @property
    def clamped(self) -> dict[int, int]:
        """The k that exceed the bank, and what was used in their place."""
        return {k: score.k_used for k, score in self.scores.items() if score.k_used != k}


def evaluate_knn(
    train_features: Matrix,
    train_labels: ArrayLike,
    test_features: Matrix,
    test_labels: ArrayLike,
    *,
    k: int | Sequence[int] = _DEFAULT.k,
    temperature: float = _DEFAULT.temperature,
    weight: Weight = _DEFAULT.weight,
    num_classes: int | None = None,
    normalize: bool = True,
    device: torch.device | str | None = None,
    processes: Processes = ALONE,
) -> KnnEvaluation:
    """kNN accuracy of features, for every k from one search.

    Similarities are float32 sums, votes float64 sums in the order of the neighbours. Of equally near neighbours the one with the smaller
    index counts as nearer; of classes with equal votes the smaller one wins.

    Parameters
    ----------
    train_features, test_features
        (N, D) and (Q, D): tensors or arrays of any real numbers (:func:`evaluation.arrays.as_matrix`), which are compared in float32.
    train_labels, test_labels
        Whole numbers (N,) and (Q,) from 0 on.
    k
        Numbers of neighbours, or one. One that exceeds N is clamped to N, and the result says so.
    temperature
        T in the weight exp(s / T).
    weight
        ``"exp"``; ``"softmax"``, the same divided by the sum over the neighbours of the largest k; ``"uniform"`` for votes of equal weight.
    num_classes
        Number of classes; by default the largest training label plus one.
    normalize
        Compare by cosine; else by inner product.
    device
        Where similarities are computed; by default where ``test_features`` are.
    processes
        Share the queries among these processes. Each of them must make the same call and gets the whole answer.

    Raises
    ------
    UserError
        Features that are not finite, or a test label that no training image has.
    ValueError
        Shapes, labels, k or a temperature that make no sense.
    """
    bank, queries = as_matrix(train_features, "train features"), as_matrix(test_features, "test features")
    k = several(k)
    bank_labels, truth = checked_labels(train_labels, len(bank), "train"), checked_labels(test_labels, len(queries), "test")
    classes = int(bank_labels.max()) + 1 if num_classes is None else num_classes
    _check(k, temperature, bank_labels, truth, classes)
    check_finite(bank, "train")
    check_finite(queries, "test")

    used = {asked: min(asked, len(bank)) for asked in sorted(set(k))}
    similarity, index = top_k(queries, bank, max(used.values()), normalize=normalize, device=device, processes=processes)
    steps = sorted(set(used.values()))
    predictions = {step: torch.empty(len(queries), dtype=torch.int64) for step in steps}
    in_top = {step: torch.empty(len(queries), dtype=torch.bool) for step in steps}
    for rows in _row_chunks(len(queries), classes):
        weights = _weights(similarity[rows], temperature, weight)
        votes = torch.zeros(len(weights), classes, dtype=torch.float64)
        done = 0
        for step in steps:
            votes.scatter_add_(1, bank_labels[index[rows, done:step]], weights[:, done:step])
            predictions[step][rows] = votes.argmax(1)  # the first of equals
            in_top[step][rows] = _among_top(votes, truth[rows])
            done = step

    class_total = torch.bincount(truth, minlength=classes).numpy()
    scores = {}
    for asked, step in used.items():
        correct = predictions[step] == truth
        scores[asked] = KnnScore(
            k=asked,
            k_used=step,
            predictions=predictions[step].numpy(),
            correct=int(correct.sum()),
            correct5=int(in_top[step].sum()) if classes > TOP else None,
            class_correct=torch.bincount(truth[correct], minlength=classes).numpy(),
            class_total=class_total,
        )
    return KnnEvaluation(scores, index.numpy())


def _weights(similarity: Tensor, temperature: float, weight: Weight) -> Tensor:
    """float64 weights (rows, k) of neighbours whose similarities stand in descending order."""
    exact = similarity.double()
    if weight == "uniform":
        return torch.ones_like(exact)
    # A factor common to all votes of a query changes no comparison; without it a small temperature would leave float64's range.
    weights = ((exact - exact[:, :1]) / temperature).exp_()
    return weights / weights.sum(1, keepdim=True) if weight == "softmax" else weights


def _among_top(votes: Tensor, truth: Tensor) -> Tensor:
    """bool (rows,): whether the truth has votes and fewer than five classes stand before it, the smaller of equals standing first."""
    own = votes.gather(1, truth[:, None])
    equal_before = (votes == own) & (torch.arange(votes.shape[1]) < truth[:, None])
    before = ((votes > own) | equal_before).sum(1)
    return (before < TOP) & (own[:, 0] > 0)


def _row_chunks(rows: int, classes: int) -> Iterator[slice]:
    step = max(1, _VOTES_AT_ONCE // classes)
    return (slice(start, start + step) for start in range(0, rows, step))


def _check(k: Sequence[int], temperature: float, bank_labels: Tensor, truth: Tensor, classes: int) -> None:
    if not k or not all(isinstance(one, int | np.integer) and one >= 1 for one in k):
        raise ValueError(f"k must be at least one whole number from 1 on, not {list(k)}")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"the temperature must be positive, not {temperature}")
    check_classes(bank_labels, truth, classes)
