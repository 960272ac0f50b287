"""k-means, many restarts, in bounded memory: in torch (:mod:`evaluation.clustering.lloyd`), or by faiss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from evaluation.arrays import Matrix, as_matrix
from evaluation.clustering.lloyd import Lloyd, Scores, argmin_pool
from evaluation.clustering.points import ROWS_AT_ONCE, Share, row_tiles
from evaluation.parallel import ALONE, Processes
from evaluation.search import full_float32
from zoo.errors import UserError

Engine = Literal["torch", "faiss"]
Init = Literal["k-means++", "greedy"]

ITERATIONS = 20
RESTARTS = 5
MAX_POINTS_PER_CENTROID = 1000

# Distances of a tile: on the CPU 64 MiB of them, on a GPU, which wants more work a call, 512 MiB.
_CPU_TILE = 1 << 24
_GPU_TILE = 1 << 27


@dataclass(frozen=True)
class KMeans:
    """Clusters of points.

    Attributes
    ----------
    centroids
        float32 (K, D); with ``spherical`` of unit length.
    assignment
        int64 (n,): the nearest centroid of each of this process's points; of equally near ones the first.
    squared_distance
        float32 (n,): squared L2 distance of each point to that centroid, computed from their difference.
    counts
        int64 (K,): points per cluster, of all processes.
    objective
        The sum of the squared distances of all processes' points.
    reseeded
        How many times a cluster that had lost its points was started anew, in the restart that was kept.
    trained_on
        Points that took part in the training, of all processes.
    """

    centroids: Tensor
    assignment: Tensor
    squared_distance: Tensor
    counts: Tensor
    objective: float
    reseeded: int
    trained_on: int

    @property
    def empty(self) -> int:
        """Clusters without a point, as there may be where fewer points differ than there are clusters."""
        return int((self.counts == 0).sum())


def kmeans(
    points: Matrix,
    clusters: int,
    *,
    seed: int,
    iterations: int = ITERATIONS,
    restarts: int = RESTARTS,
    engine: Engine = "torch",
    init: Init = "k-means++",
    spherical: bool = False,
    max_points_per_centroid: int = MAX_POINTS_PER_CENTROID,
    start: Tensor | None = None,
    device: torch.device | str | None = None,
    tile: int | None = None,
    processes: Processes = ALONE,
) -> KMeans:
    """Cluster points by squared L2 distance, and keep the restart with the smallest sum of distances.

    Parameters
    ----------
    points
        (n, D), finite: a tensor on any device or an array, of any real numbers (:func:`evaluation.arrays.as_matrix`): this process's share
        of the points. The shares of all processes, in order of rank, are the points; some may be empty.
    clusters
        K, at most the number of points.
    seed
        The result depends on it alone, up to the rounding of sums; not on the number of processes.
    iterations, restarts
        Lloyd iterations of a restart, and restarts. On the CPU a restart ends before, with the same result, once nothing changes.
    engine
        ``torch``, or ``faiss`` (Johnson et al., "Billion-scale similarity search with GPUs", 2017), which clusters the points of one
        process, by its GPU index where ``device`` is a GPU. Both train only: the final assignment is computed here for either.
    init
        How the torch engine chooses first centroids: ``k-means++``, or ``greedy``, k-means++ of which each seed is the best of 2 + ln K
        trials, as
        scikit-learn has it. Greedy seeds end in smaller sums where there are few points a cluster, and cost a walk over all points each.
    spherical
        Give centroids unit length after each iteration, so that for points of unit length nearest is by cosine (Dhillon & Modha, 2001).
    max_points_per_centroid
        With more points than this times K, training uses so many of them, drawn without replacement. All points are assigned.
    start
        First centroids (K, D), the same in each process. Then there is one restart, for they would be equal.
    device
        Where to compute; the points' own device by default. The points are copied there, and to float32, unless they are so already.
    tile
        Distances in memory at a time, 4 bytes each; at least a row of K.
    processes
        The processes that share the points. Each of them makes the same call and gets the same centroids.

    Returns
    -------
    A :class:`KMeans`, its tensors on ``device``.

    Raises
    ------
    UserError
        For more clusters than points, points that are not finite, settings out of range, or faiss where it cannot do it.
    ValueError
        For points or a start that are not of the shape given above.

    Notes
    -----
    Seeds are those of k-means++ (Arthur & Vassilvitskii, 2007), drawn many at a time: candidates come with probability in proportion to
    the squared distance to the nearest seed of the rounds before, and one that lies nearer to another candidate is refused with the
    probability that makes up for it. Together the rounds cost about one iteration. faiss draws points uniformly, which on data with clear
    clusters ends in larger sums that scatter more.

    A cluster that has lost its points takes half of one with a large sum of squared distances.
    """
    points = as_matrix(points, "points", least_rows=0)
    if start is not None and start.shape != (clusters, points.shape[1]):
        raise ValueError(f"start must be of shape {(clusters, points.shape[1])}, not {tuple(start.shape)}")
    _check_settings(clusters, iterations, restarts, engine, init, max_points_per_centroid, tile)
    if engine == "faiss" and processes.count > 1:
        raise UserError(f"the faiss engine clusters the points of one process, and these are {processes.count}; use the torch engine")
    place = torch.device(points.device if device is None else device)
    if tile is None:
        tile = _CPU_TILE if place.type == "cpu" else _GPU_TILE
    with torch.no_grad(), torch.autocast(place.type, enabled=False), full_float32(), argmin_pool(place) as pool:
        share = Share.of(points.to(device=place, dtype=torch.float32).contiguous(), processes)
        if clusters > share.total:
            raise UserError(f"there are {share.total:,} points for {clusters:,} clusters; choose at most {share.total:,} clusters")
        first = None if start is None else start.detach().to(device=place, dtype=torch.float32)
        scores = Scores(clusters, tile, pool)
        if engine == "torch":
            kept = share.sample(max_points_per_centroid * clusters, seed)
            lloyd = Lloyd(kept, clusters, spherical, scores, greedy=init == "greedy")
            centroids, reseeded = lloyd.best_of(1 if first is not None else restarts, iterations, seed, first)
            trained_on = kept.total
        else:
            centroids, reseeded = _train_faiss(
                share.points, clusters, seed, iterations, restarts, spherical, max_points_per_centroid, first
            )
            trained_on = min(share.total, max_points_per_centroid * clusters)
        return _result(share, processes.from_process(centroids, 0), reseeded, trained_on, scores)


def _check_settings(clusters: int, iterations: int, restarts: int, engine: str, init: str, max_points: int, tile: int | None) -> None:
    least_one = {"clusters": clusters, "iterations": iterations, "restarts": restarts, "max_points_per_centroid": max_points}
    for name, value in (least_one if tile is None else {**least_one, "tile": tile}).items():
        if value < 1:
            raise UserError(f"k-means needs {name} of at least 1, not {value}")
    if engine not in get_args(Engine):
        raise UserError(f"there is no k-means engine '{engine}'; choose one of {', '.join(get_args(Engine))}")
    if init not in get_args(Init):
        raise UserError(f"there is no way '{init}' to choose first centroids; choose one of {', '.join(get_args(Init))}")
    if engine == "faiss" and init == "greedy":
        raise UserError("the faiss engine draws its first centroids by itself; leave init at k-means++, or use the torch engine")


def _train_faiss(
    points: Tensor, clusters: int, seed: int, iterations: int, restarts: int, spherical: bool, max_points: int, start: Tensor | None
) -> tuple[Tensor, int]:
    """Centroids by faiss, and how many clusters it split to fill empty ones."""
    import faiss

    if points.device.type not in ("cpu", "cuda"):
        raise UserError(f"faiss computes on cpu and cuda, not on '{points.device.type}'; use the torch engine")
    gpu = points.device.type == "cuda"
    if gpu and faiss.get_num_gpus() == 0:
        raise UserError("this faiss sees no GPU; use device 'cpu', or the torch engine")
    if seed >= 1 << 31:
        raise UserError(f"faiss takes seeds below 2**31, not {seed}; choose a smaller one, or the torch engine")
    trained = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=iterations,
        nredo=1 if start is not None else restarts,
        seed=seed,
        spherical=spherical,
        max_points_per_centroid=max_points,
        min_points_per_centroid=1,  # below it faiss only warns
        gpu=gpu,
    )
    trained.train(points.cpu().numpy(), init_centroids=None if start is None else start.cpu().numpy())
    centroids = torch.from_numpy(trained.centroids).to(points.device)
    return centroids, int(sum(step["nsplit"] for step in trained.iteration_stats or ()))


def _result(share: Share, centroids: Tensor, reseeded: int, trained_on: int, scores: Scores) -> KMeans:
    assignment = scores.nearest(share, centroids[None])[:, 0]
    distance = torch.empty(len(share.points), device=centroids.device)
    for rows in row_tiles(len(share.points), ROWS_AT_ONCE):
        distance[rows] = (share.points[rows] - centroids[assignment[rows]]).square_().sum(1)
    counts = share.processes.sum(torch.bincount(assignment, minlength=len(centroids)))
    objective = share.processes.sum(distance.sum(dtype=torch.float64))
    return KMeans(centroids, assignment, distance, counts, float(objective), reseeded, trained_on)
