"""k-means (Lloyd's algorithm), many restarts, in bounded memory: in torch, on CPU and GPU and in several processes, or by faiss.

An iteration in torch is a matrix product per tile of points, of which only the position of each row's minimum is kept; then the points of
each cluster are summed. Everything else is as large as the centroids. In several processes each has its own share of the points, and what
travels in an iteration is one matrix of sums. On a GPU the host waits for nothing between the first seeds and the final result.

Sums go over the points in the order of their clusters, in float32 over at most 256 rows and in float64 from there on: so they are accurate
for clusters of any size, and are the same numbers in every run, which atomic additions on a GPU are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.clustering.together import total
from evaluation.parallel import ALONE, Processes
from evaluation.search import full_float32
from zoo.errors import UserError
from zoo.randomness import generator

Engine = Literal["torch", "faiss"]

ITERATIONS = 20
RESTARTS = 5
MAX_POINTS_PER_CENTROID = 1000

# Distances of a tile: on the CPU 64 MiB of them, on a GPU, which wants more work a call, 512 MiB.
_CPU_TILE = 1 << 24
_GPU_TILE = 1 << 27
# On the CPU a tile has at most so many rows for each thread: it stays in the cache between the product and the search of its minima.
_CPU_ROWS_PER_THREAD = 1024
# Rows whose squares are summed at a time, in float64.
_ROWS_AT_ONCE = 1 << 14
# Rows that are summed in float32 before the sum goes on in float64.
_ROWS_PER_SUM = 256
# A round of seeding chooses one in so many of the seeds that are still missing, and at most so many, of twice as many candidates.
_MISSING_PER_ROUND = 4
_SEEDS_PER_ROUND = 1024
_CANDIDATES_PER_SEED = 2
# By how much of a cluster's spread the halves of a split cluster start apart.
_SPLIT = 1e-3
# Squared norms from here on are not safe in float32, in which distances are computed.
_LARGEST_SQUARE = 1e36


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
    points: Tensor,
    clusters: int,
    *,
    seed: int,
    iterations: int = ITERATIONS,
    restarts: int = RESTARTS,
    engine: Engine = "torch",
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
        Tensor (n, D) of any floating dtype, finite, on any device: this process's share of the points. The shares of all processes, in
        order of rank, are the points; some may be empty.
    clusters
        K, at most the number of points.
    seed
        The result depends on it alone, up to the rounding of sums; not on the number of processes.
    iterations, restarts
        Lloyd iterations of a restart, and restarts. On the CPU a restart ends before, with the same result, once nothing changes.
    engine
        ``torch``, or ``faiss`` (Johnson et al., "Billion-scale similarity search with GPUs", 2017), which clusters the points of one
        process, by its GPU index where ``device`` is a GPU. Both train only: the final assignment is computed here for either.
    spherical
        Give centroids unit length after each iteration, so that for points of unit length nearest is by cosine (Dhillon & Modha, 2001).
    max_points_per_centroid
        With more points than this times K, training uses so many of them, drawn without replacement. All points are assigned.
    start
        First centroids (K, D), the same in each process. Then there is one restart, for they would be equal.
    device
        Where to compute; the points' own device by default. The points are copied there, and to float32, unless they are so already.
    tile
        Distances that are held at a time, 4 bytes each; at least a row of K.
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
    if points.ndim != 2 or not points.is_floating_point():
        raise ValueError(f"points must be a floating-point matrix (n, D), not {points.dtype} of shape {tuple(points.shape)}")
    if start is not None and start.shape != (clusters, points.shape[1]):
        raise ValueError(f"start must be of shape {(clusters, points.shape[1])}, not {tuple(start.shape)}")
    _check_settings(clusters, iterations, restarts, engine, max_points_per_centroid, tile)
    if engine == "faiss" and processes.count > 1:
        raise UserError(f"the faiss engine clusters the points of one process, and these are {processes.count}; use the torch engine")
    place = torch.device(points.device if device is None else device)
    if tile is None:
        tile = _CPU_TILE if place.type == "cpu" else _GPU_TILE
    with torch.no_grad(), torch.autocast(place.type, enabled=False), full_float32(), _argmin_pool(place) as pool:
        share = _Share.of(points.detach().to(device=place, dtype=torch.float32).contiguous(), processes)
        if clusters > share.total:
            raise UserError(f"there are {share.total:,} points for {clusters:,} clusters; choose at most {share.total:,} clusters")
        first = None if start is None else start.detach().to(device=place, dtype=torch.float32)
        scores = _Scores(clusters, tile, pool)
        if engine == "torch":
            kept = share.sample(max_points_per_centroid * clusters, seed)
            lloyd = _Lloyd(kept, clusters, spherical, scores)
            centroids, reseeded = lloyd.best_of(1 if first is not None else restarts, iterations, seed, first)
            trained_on = kept.total
        else:
            centroids, reseeded = _train_faiss(
                share.points, clusters, seed, iterations, restarts, spherical, max_points_per_centroid, first
            )
            trained_on = min(share.total, max_points_per_centroid * clusters)
        return _result(share, processes.from_process(centroids, 0), reseeded, trained_on, scores)


def _check_settings(clusters: int, iterations: int, restarts: int, engine: str, max_points: int, tile: int | None) -> None:
    least_one = {"clusters": clusters, "iterations": iterations, "restarts": restarts, "max_points_per_centroid": max_points}
    for name, value in (least_one if tile is None else {**least_one, "tile": tile}).items():
        if value < 1:
            raise UserError(f"k-means needs {name} of at least 1, not {value}")
    if engine not in get_args(Engine):
        raise UserError(f"there is no k-means engine '{engine}'; choose one of {', '.join(get_args(Engine))}")


@dataclass(frozen=True)
class _Share:
    """This process's part of the points, and where it stands among all of them."""

    points: Tensor
    origin: Tensor  # float32 (D,): the mean of the points of all processes
    squares: Tensor  # float64 (n,): squared distances to the origin
    counts: tuple[int, ...]  # of the processes' points
    processes: Processes

    @classmethod
    def of(cls, points: Tensor, processes: Processes) -> _Share:
        # The sizes travel first: a process that stops over its share must not leave the others waiting.
        size = torch.zeros(processes.count, dtype=torch.int64, device=points.device)
        size[processes.rank] = len(points)
        counts = tuple(total(size, processes).tolist())
        summed = points.new_zeros(points.shape[1], dtype=torch.float64)
        for rows in _tiles(len(points), _ROWS_AT_ONCE):
            summed += points[rows].sum(0, dtype=torch.float64)
        origin = (total(summed, processes) / max(1, sum(counts))).float()
        squares = torch.empty(len(points), dtype=torch.float64, device=points.device)
        for rows in _tiles(len(points), _ROWS_AT_ONCE):
            squares[rows] = (points[rows].double() - origin).square_().sum(1)
        error: UserError | None = None
        # A comparison that is false also for what is not a number.
        if not bool((squares < _LARGEST_SQUARE).all()):
            error = cls._error_of(points, sum(counts[: processes.rank]))
        processes.raise_first(error)
        return cls(points, origin, squares, counts, processes)

    @staticmethod
    def _error_of(points: Tensor, first: int) -> UserError | None:
        """What to say of points that cannot be clustered; nothing where the mistake is in another process's points."""
        for rows in _tiles(len(points), _ROWS_AT_ONCE):
            # A point that far from the origin, or the one that drew the origin away, is at least half as far from zero.
            wrong = (~(points[rows].double().square().sum(1) < _LARGEST_SQUARE / 4)).nonzero()[:, 0]
            if wrong.numel():
                position = first + rows.start + int(wrong[0])
                return UserError(f"point {position} is not finite, or too large for float32; leave such points out")
        return None

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def first(self) -> int:
        """The position of this process's first point among all."""
        return sum(self.counts[: self.processes.rank])

    def sample(self, most: int, seed: int) -> _Share:
        """At most so many of the points of all processes, the same ones however they are shared."""
        if self.total <= most:
            return self
        chosen = np.sort(generator(seed, "k-means sample").permutation(self.total)[:most])
        bounds = np.searchsorted(chosen, np.cumsum([0, *self.counts]))
        start, stop = bounds[self.processes.rank], bounds[self.processes.rank + 1]
        rows = torch.from_numpy(chosen[start:stop] - self.first).to(self.points.device)
        return _Share(self.points[rows], self.origin, self.squares[rows], tuple(np.diff(bounds).tolist()), self.processes)

    def at(self, positions: Tensor, values: Tensor) -> Tensor:
        """The rows of ``values``, of which each process holds its points', for positions (b,) among all points."""
        here = positions - self.first
        mine = (here >= 0) & (here < len(values))
        if len(values) == 0:
            found = values.new_zeros(len(positions), *values.shape[1:])
        else:
            found = values[here.clamp(0, len(values) - 1)]
            found = found.masked_fill_(~mine.view(-1, *[1] * (found.ndim - 1)), 0)
        return total(found, self.processes)

    def draw(self, weights: Tensor, uniforms: Tensor) -> Tensor:
        """Positions (b,) among all points: the i-th is drawn with probability in proportion to weight within the i-th of b equal parts
        of the total weight."""
        running = weights.cumsum(0, dtype=torch.float64)
        sizes = torch.zeros(self.processes.count, dtype=torch.float64, device=weights.device)
        sizes[self.processes.rank : self.processes.rank + 1] = running[-1:].sum()
        ends = total(sizes, self.processes).cumsum(0)
        parts = torch.arange(len(uniforms), device=weights.device)
        targets = (parts + uniforms) / len(uniforms) * ends[-1]
        owner = torch.searchsorted(ends, targets, right=True).clamp_(max=self.processes.count - 1)
        # Rounding, or weights that are all zero, may lead past the last point.
        within = torch.searchsorted(running, targets - (ends - sizes)[self.processes.rank], right=True)
        chosen = (within.clamp_(max=max(0, len(weights) - 1)) + self.first).masked_fill_(owner != self.processes.rank, 0)
        return total(chosen, self.processes).clamp_(max=self.total - 1)


class _Scores:
    """Distances of points to K centroids, in tiles that are held in the same memory, less what all centroids of a point share."""

    def __init__(self, clusters: int, tile: int, pool: ThreadPoolExecutor | None) -> None:
        self.most, self.pool = max(tile, clusters), pool
        self.buffer = torch.empty(0)

    def tiles(self, share: _Share, centroids: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows, and their scores (rows, K): |x - c|^2 - |x - o|^2 = |c|^2 - |o|^2 - 2 x.(c - o).

        With the mean of all points as the origin o, products and their rounding are as small as the data's spread lets them be.
        """
        factors = (centroids - share.origin).mul_(-2).T
        offsets = ((centroids.double() - share.origin) * (centroids.double() + share.origin)).sum(1).float()
        for rows in _tiles(len(share.points), self._rows(share.points.device, len(centroids))):
            scores = self._memory(share.points.device, rows.stop - rows.start, len(centroids))
            yield rows, torch.addmm(offsets, share.points[rows], factors, out=scores)

    def nearest(self, share: _Share, centroids: Tensor) -> Tensor:
        """int64 (n,): the first of the centroids nearest to each point."""
        found = torch.empty(len(share.points), dtype=torch.int64, device=share.points.device)
        for rows, scores in self.tiles(share, centroids):
            self._argmin(scores, found[rows])
        return found

    def least(self, share: _Share, centroids: Tensor) -> Tensor:
        """float64 (n,): the squared distance to the nearest centroid, in the precision of float32."""
        found = torch.empty_like(share.squares)
        for rows, scores in self.tiles(share, centroids):
            found[rows] = share.squares[rows] + scores.amin(1)
        return found.clamp_(min=0)

    def _rows(self, device: torch.device, clusters: int) -> int:
        rows = max(1, self.most // clusters)
        return min(rows, _CPU_ROWS_PER_THREAD * torch.get_num_threads()) if device.type == "cpu" else rows

    def _memory(self, device: torch.device, rows: int, clusters: int) -> Tensor:
        if self.buffer.numel() < rows * clusters or self.buffer.device != device:
            self.buffer = torch.empty(rows * clusters, device=device)
        return self.buffer[: rows * clusters].view(rows, clusters)

    def _argmin(self, scores: Tensor, nearest: Tensor) -> None:
        if scores.device.type != "cpu":
            torch.argmin(scores, 1, out=nearest)
            return
        # NumPy's search is vectorised along a row, and several times as fast as torch's.
        numbers, found = scores.numpy(), nearest.numpy()
        if self.pool is None:
            np.argmin(numbers, 1, out=found)
            return
        step = -(-len(numbers) // torch.get_num_threads())
        for _ in self.pool.map(lambda rows: np.argmin(numbers[rows], 1, out=found[rows]), _tiles(len(numbers), step)):
            pass


class _Lloyd:
    """Restarts of Lloyd's algorithm on one sample of the points. No value leaves the device, except to see on the CPU that it is done."""

    def __init__(self, share: _Share, clusters: int, spherical: bool, scores: _Scores) -> None:
        self.share, self.clusters, self.spherical, self.scores = share, clusters, spherical, scores
        self.offset = total(share.squares.sum(), share.processes)

    def best_of(self, restarts: int, iterations: int, seed: int, start: Tensor | None) -> tuple[Tensor, int]:
        """The centroids (K, D) of the best restart, and how many clusters it started anew."""
        device = self.share.points.device
        draws = [generator(seed, "k-means seeds", restart).random((3, _CANDIDATES_PER_SEED * self.clusters)) for restart in range(restarts)]
        uniforms = torch.from_numpy(np.stack(draws)).to(device)
        best = torch.zeros(self.clusters, self.share.points.shape[1], device=device)
        smallest = torch.full((), torch.inf, dtype=torch.float64, device=device)
        reseeded = torch.zeros((), dtype=torch.int64, device=device)
        for restart in range(restarts):
            first = self._seeds(uniforms[restart]) if start is None else start
            centroids, objective, again = self._run(self._shaped(first), iterations)
            better = objective < smallest
            best, smallest = torch.where(better, centroids, best), torch.where(better, objective, smallest)
            reseeded = torch.where(better, again, reseeded)
        return best, int(reseeded)

    def _run(self, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
        """Centroids after the iterations, the objective before the last change of them (as faiss compares restarts), clusters reseeded."""
        reseeded = torch.zeros((), dtype=torch.int64, device=centroids.device)
        objective = torch.zeros((), dtype=torch.float64, device=centroids.device)
        for _ in range(iterations):
            sums, squares, counts = self._sums(self.scores.nearest(self.share, centroids))
            # |x - c|^2 = |x - o|^2 - (c - o).(2 x - c - o), summed over the points of each cluster.
            before = centroids.double()
            gains = ((before - self.share.origin) * (2 * sums - counts[:, None] * (before + self.share.origin))).sum(1)
            objective = self.offset - gains.sum()
            means = self._filled(sums / counts.clamp(min=1)[:, None], (squares - gains).clamp_(min=0), counts)
            reseeded += (counts == 0).sum()
            previous, centroids = centroids, self._shaped(means.float())
            # The rest would repeat this iteration. On a GPU the question would cost more than the answer spares.
            if centroids.device.type == "cpu" and torch.equal(previous, centroids):
                break
        return centroids, objective, reseeded

    def _shaped(self, centroids: Tensor) -> Tensor:
        return functional.normalize(centroids, dim=1) if self.spherical else centroids

    def _seeds(self, uniforms: Tensor) -> Tensor:
        """K of the points (K, D), with 3 x 2 K random numbers."""
        share = self.share
        if self.clusters == share.total:
            return share.at(torch.arange(share.total, device=uniforms.device), share.points)
        weights = torch.ones(len(share.points), dtype=torch.float64, device=uniforms.device)
        seeds: list[Tensor] = []
        done = 0
        while done < self.clusters:
            wanted = min(-(-(self.clusters - done) // _MISSING_PER_ROUND), _SEEDS_PER_ROUND) if seeds else 1
            chosen = self._chosen(weights, uniforms[:, _CANDIDATES_PER_SEED * done : _CANDIDATES_PER_SEED * (done + wanted)], wanted)
            distance = self.scores.least(share, chosen)
            weights = torch.minimum(weights, distance) if seeds else distance
            seeds.append(chosen)
            done += wanted
        return torch.cat(seeds)

    def _chosen(self, weights: Tensor, uniforms: Tensor, wanted: int) -> Tensor:
        """So many of the points, as if drawn one after the other with probability in proportion to what each leaves of the weights."""
        share = self.share
        positions = share.draw(weights, uniforms[0])[uniforms[1].argsort()]
        candidates = self._shaped(share.at(positions, share.points))
        # A candidate among earlier ones has only this distance left of the weight by which it was drawn.
        apart = torch.cdist(candidates - share.origin, candidates - share.origin).square_()
        left = apart.masked_fill_(torch.ones_like(apart, dtype=torch.bool).triu_(), torch.inf).amin(1)
        refused = left < uniforms[2] * share.at(positions, weights)
        # Refused ones come last: they are taken only where too few are left.
        return candidates[refused.byte().argsort(stable=True)[:wanted]]

    def _sums(self, assignment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each cluster: the sum of its points (K, D), of their squared distances to the origin (K,), and their number (K,); in float64,
        of all processes."""
        points, device = self.share.points, self.share.points.device
        if len(points) == 0:
            summed = torch.zeros(self.clusters, points.shape[1] + 2, dtype=torch.float64, device=device)
        else:
            order, ordered = _sorted(assignment, self.clusters)
            starts = torch.searchsorted(ordered, torch.arange(self.clusters, device=device))
            counts = starts.diff(append=starts.new_full((1,), len(points)))
            # Runs of rows end with a cluster, and after every 256 rows; then the runs of each cluster are summed.
            runs = torch.cat([starts, torch.arange(0, len(points), _ROWS_PER_SUM, device=device)]).sort().values
            clusters = torch.searchsorted(runs, starts)
            every = torch.arange(len(runs), device=device)
            sums = functional.embedding_bag(every, functional.embedding_bag(order, points, runs, mode="sum").double(), clusters, mode="sum")
            # On a GPU these additions have no fixed order; they only say which clusters have the largest errors.
            squares = self.share.squares.new_zeros(self.clusters).index_add_(0, assignment, self.share.squares)
            summed = torch.cat([sums, squares[:, None], counts[:, None].double()], dim=1)
        summed = total(summed, self.share.processes)
        return summed[:, :-2], summed[:, -2], summed[:, -1]

    def _filled(self, means: Tensor, errors: Tensor, counts: Tensor) -> Tensor:
        """The means (K, D), and for each empty cluster a point beside the mean of one with a large error, so that they share its points."""
        empty = counts == 0
        order = errors.argsort(descending=True, stable=True)
        # Clusters with more than the mean error give, by turns, those with larger ones first.
        number = empty.cumsum(0) - 1
        givers = (errors > errors.mean()).sum().clamp_(min=1)
        giver = order[number.clamp(min=0) % givers]
        turn = torch.div(number, givers, rounding_mode="floor") + 1
        spread = (errors[giver] / counts[giver].clamp(min=1) / means.shape[1]).sqrt_()
        signs = 1 - 2 * (torch.arange(means.shape[1], device=means.device) % 2)
        return torch.where(empty[:, None], means[giver] + (_SPLIT * turn * spread)[:, None] * signs, means)


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


def _result(share: _Share, centroids: Tensor, reseeded: int, trained_on: int, scores: _Scores) -> KMeans:
    assignment = scores.nearest(share, centroids)
    distance = torch.empty(len(share.points), device=centroids.device)
    for rows in _tiles(len(share.points), _ROWS_AT_ONCE):
        distance[rows] = (share.points[rows] - centroids[assignment[rows]]).square_().sum(1)
    counts = total(torch.bincount(assignment, minlength=len(centroids)), share.processes)
    objective = total(distance.sum(dtype=torch.float64), share.processes)
    return KMeans(centroids, assignment, distance, counts, float(objective), reseeded, trained_on)


def _sorted(assignment: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The points' order by cluster, stable, and their clusters in that order."""
    if assignment.device.type == "cpu":
        # NumPy sorts numbers of 16 bits in linear time.
        numbers = assignment.numpy().astype(np.uint16) if clusters <= 1 << 16 else assignment.numpy()
        order = torch.from_numpy(np.argsort(numbers, kind="stable"))
        return order, assignment[order]
    ordered, order = assignment.sort(stable=True)
    return order, ordered


def _tiles(total_rows: int, rows: int) -> Iterator[slice]:
    for start in range(0, total_rows, rows):
        yield slice(start, min(start + rows, total_rows))


@contextmanager
def _argmin_pool(device: torch.device) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that look for minima on the CPU, as many as torch multiplies with."""
    if device.type == "cpu" and torch.get_num_threads() > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            yield pool
    else:
        yield None
