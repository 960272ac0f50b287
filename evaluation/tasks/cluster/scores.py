"""How well clusters agree with labels: the measures, and the table they are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MEASURES = ("nmi", "ami", "ari", "fmi")


@dataclass(frozen=True)
class ClusterScores:
    """Agreement of clusters with labels; all are 1 where each class is a cluster.

    Attributes
    ----------
    nmi
        Normalised mutual information, by the arithmetic mean of the entropies. Not corrected for chance: many small clusters raise it.
    ami
        Adjusted mutual information (Vinh et al., JMLR 2010): 0 is what random clusters of the same sizes have on average.
    ari
        Adjusted Rand index (Hubert and Arabie, 1985), which chance gives 0 as well.
    fmi
        Fowlkes-Mallows index (1983).
    matched
        Images whose cluster is the one matched with their class, in the best matching of clusters with classes one to one; None unless
        there are as many clusters as classes.
    images
        How many there are.
    """

    nmi: float
    ami: float
    ari: float
    fmi: float
    matched: int | None
    images: int

    @property
    def accuracy(self) -> float | None:
        """The share of images that are matched."""
        return None if self.matched is None else self.matched / self.images


def cluster_scores(labels: ArrayLike, clusters: ArrayLike, *, classes: int | None = None, count: int | None = None) -> ClusterScores:
    """Compare clusters with labels.

    The measures are scikit-learn's; the matching is exact (``scipy.optimize.linear_sum_assignment``), also for thousands of clusters.

    Parameters
    ----------
    labels, clusters
        Whole numbers (N,) from 0 on: each image's class, and its cluster.
    classes, count
        Number of classes and of clusters, counting those without an image; by default the largest number of each plus one.

    Raises
    ------
    ValueError
        The arrays are empty, of different lengths, or hold other things than whole numbers from 0 on.
    """
    # Only these measures need scikit-learn, which takes a second to import; k-means does without it.
    from sklearn import metrics

    truth, found = _whole_numbers(labels, "labels"), _whole_numbers(clusters, "clusters")
    if truth.shape != found.shape:
        raise ValueError(f"{len(truth)} labels do not go with {len(found)} clusters")
    classes = int(truth.max()) + 1 if classes is None else classes
    count = int(found.max()) + 1 if count is None else count
    return ClusterScores(
        nmi=float(metrics.normalized_mutual_info_score(truth, found)),
        ami=float(metrics.adjusted_mutual_info_score(truth, found)),
        ari=float(metrics.adjusted_rand_score(truth, found)),
        fmi=float(metrics.fowlkes_mallows_score(truth, found)),
        matched=_matched(truth, found, classes) if classes == count else None,
        images=len(truth),
    )


def _matched(truth: NDArray[np.int64], found: NDArray[np.int64], count: int) -> int:
    from scipy.optimize import linear_sum_assignment

    table = np.bincount(truth * count + found, minlength=count * count).reshape(count, count)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())


def _whole_numbers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0 or array.min() < 0:
        raise ValueError(f"{name} must be whole numbers from 0 on, one per image, not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)
