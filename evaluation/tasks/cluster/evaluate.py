"""Clustering as an evaluation: k-means on frozen features, and how its clusters agree with labels on every level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evaluation.arrays import Matrix, as_matrix
from evaluation.clustering.kmeans import ITERATIONS, MAX_POINTS_PER_CENTROID, RESTARTS, Engine, Init, kmeans
from evaluation.parallel import ALONE, Processes
from evaluation.tasks.cluster.scores import ClusterScores, cluster_scores
from evaluation.tasks.task import several
from zoo.data.base import Level
from zoo.errors import UserError

# Greedy seeds walk over all points once a seed. Up to so many points x clusters x dimensions that takes seconds on a CPU.
GREEDY_WORK = 2 * 10**10


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of a number K, and what they are worth.

    Attributes
    ----------
    assignment
        int64 array (N,): each image's cluster.
    squared_distance
        float32 array (N,): of each feature to its centroid.
    objective
        Sum of the squared distances to the centroids.
    empty
        Clusters without an image.
    init
        How first centroids were chosen, as :func:`evaluation.clustering.kmeans` calls it.
    scores
        By label level; empty where there are no labels.
    """

    assignment: NDArray[np.int64]
    squared_distance: NDArray[np.float32]
    objective: float
    empty: int
    init: Init
    scores: dict[str, ClusterScores]


def evaluate_clustering(
    features: Matrix,
    levels: Mapping[str, Level] | None = None,
    *,
    clusters: int | Sequence[int],
    seed: int = 0,
    normalize: bool = True,
    iterations: int = ITERATIONS,
    restarts: int = RESTARTS,
    max_points_per_centroid: int = MAX_POINTS_PER_CENTROID,
    engine: Engine = "torch",
    init: Init | Literal["auto"] = "auto",
    device: torch.device | str | None = None,
    processes: Processes = ALONE,
) -> dict[int, Clustering]:
    """Cluster features into each number of clusters, and compare with the labels of each level.

    Parameters
    ----------
    features
        (N, D), finite, of any real numbers (:func:`evaluation.arrays.as_matrix`), the whole matrix in every process.
    levels
        Label levels of the N images (``Images.levels``); None: without labels only the objective is known.
    clusters
        Numbers of clusters, or one.
    seed
        The k-means' seed.
    normalize
        Give features unit length before they are clustered.
    iterations, restarts, max_points_per_centroid, engine, device
        As in :func:`evaluation.clustering.kmeans`.
    init
        As in :func:`evaluation.clustering.kmeans`; ``auto``: ``greedy`` up to ``GREEDY_WORK`` (points, at most those that train, x
        clusters x
        dimensions), beyond it and for faiss ``k-means++``.
    processes
        Share the images among these processes; each makes the same call and gets the whole answer.

    Returns
    -------
    A :class:`Clustering` by number of clusters, ascending.

    Raises
    ------
    UserError
        More clusters than images, features that are not finite, or k-means settings without meaning.
    ValueError
        Labels that are not as many as features.
    """
    rows, clusters = as_matrix(features, "features", least_rows=0), several(clusters)
    levels = {} if levels is None else levels
    for name, level in levels.items():
        if len(level.labels) != len(rows):
            raise ValueError(f"level '{name}' has {len(level.labels)} labels for {len(rows)} feature vectors")
    if not clusters or not all(isinstance(one, int | np.integer) and one >= 1 for one in clusters):
        raise UserError(f"the numbers of clusters must be whole numbers from 1 on, not {list(clusters)}")
    most = max(clusters)
    if most > len(rows):
        raise UserError(f"there are {len(rows):,} images for {most:,} clusters; choose at most {len(rows):,}")
    chunk = -(-len(rows) // processes.count)
    share = processes.share(len(rows), chunk)
    mine = rows[share].float()
    if normalize:
        mine = functional.normalize(mine, dim=1)
    results = {}
    for count in sorted(set(clusters)):
        chosen = _chosen_init(min(len(rows), max_points_per_centroid * count) * count * rows.shape[1], engine) if init == "auto" else init
        found = kmeans(
            mine,
            count,
            seed=seed,
            init=chosen,
            iterations=iterations,
            restarts=restarts,
            max_points_per_centroid=max_points_per_centroid,
            engine=engine,
            device=device,
            processes=processes,
        )
        assignment, distance = torch.empty(len(rows), dtype=torch.int64), torch.empty(len(rows))
        for whole, part in ((assignment, found.assignment), (distance, found.squared_distance)):
            whole[share] = part.cpu()
            processes.gather_rows(whole, chunk)
        numbers = assignment.numpy()
        scores = {name: cluster_scores(level.labels, numbers, classes=len(level.classes), count=count) for name, level in levels.items()}
        results[count] = Clustering(numbers, distance.numpy(), found.objective, found.empty, chosen, scores)
    return results


def _chosen_init(work: int, engine: Engine) -> Init:
    return "greedy" if engine == "torch" and work <= GREEDY_WORK else "k-means++"
