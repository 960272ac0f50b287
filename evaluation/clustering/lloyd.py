"""Lloyd's algorithm with many restarts, in torch, on CPU and GPU and in several processes.

An iteration is a matrix product per tile of points, of which only the position of each row's minimum is kept; then the points of each
cluster are summed. Everything else is as large as the centroids. In several processes each has its own share of the points, and what
travels in an iteration is one matrix of sums. On a GPU the host waits for nothing between the first seeds and the final result.

Sums go over the points in the order of their clusters, in float32 over at most 256 rows and in float64 from there on: so they are accurate
for clusters of any size, and are the same numbers in every run, which atomic additions on a GPU are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluation.clustering.points import Share, row_tiles
from evaluation.products import Products
from zoo.randomness import generator

# On the CPU a tile has at most so many rows for each thread: it stays in the cache between the product and the search of its minima.
_CPU_ROWS_PER_THREAD = 1024
# Multiplications of a product from which oneDNN is faster than MKL, which begins sooner.
_SMALLEST_ONEDNN = 1 << 24
# Rows that are summed in float32 before the sum goes on in float64.
_ROWS_PER_SUM = 256
# A round of seeding chooses one in so many of the seeds that are still missing, and at most so many, of twice as many candidates.
_MISSING_PER_ROUND = 4
_SEEDS_PER_ROUND = 1024
_CANDIDATES_PER_SEED = 2
# By how much of a cluster's spread the halves of a split cluster start apart.
_SPLIT = 1e-3


def greedy_trials(clusters: int) -> int:
    """Candidates for each seed of greedy k-means++, as scikit-learn has them: 2 + ln K."""
    return 2 + int(math.log(clusters))


class Scores:
    """Distances of points to K centroids, in tiles that use the same memory, less what all centroids of a point share."""

    def __init__(self, clusters: int, tile: int, pool: ThreadPoolExecutor | None) -> None:
        self.most, self.pool = max(tile, clusters), pool
        self.products = Products(_SMALLEST_ONEDNN)

    def tiles(self, share: Share, centroids: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows, and their scores (rows, K): |x - c|^2 - |x - o|^2 = |c|^2 - |o|^2 - 2 x.(c - o).

        With the mean of all points as the origin o, products and their rounding are as small as the data's spread lets them be.
        """
        factors = (centroids - share.origin).mul_(-2)
        offsets = ((centroids.double() - share.origin) * (centroids.double() + share.origin)).sum(1).float()
        for rows in row_tiles(len(share.points), self._rows(share.points.device, len(centroids))):
            yield rows, self.products.of(share.points[rows], factors, offsets)

    def nearest(self, share: Share, centroids: Tensor) -> Tensor:
        """int64 (n,): the first of the centroids nearest to each point."""
        found = torch.empty(len(share.points), dtype=torch.int64, device=share.points.device)
        for rows, scores in self.tiles(share, centroids):
            self._argmin(scores, found[rows])
        return found

    def least(self, share: Share, centroids: Tensor) -> Tensor:
        """float64 (n,): the squared distance to the nearest centroid, in the precision of float32."""
        found = torch.empty_like(share.squares)
        for rows, scores in self.tiles(share, centroids):
            found[rows] = share.squares[rows] + scores.amin(1)
        return found.clamp_(min=0)

    def _rows(self, device: torch.device, clusters: int) -> int:
        rows = max(1, self.most // clusters)
        return min(rows, _CPU_ROWS_PER_THREAD * torch.get_num_threads()) if device.type == "cpu" else rows

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
        for _ in self.pool.map(lambda rows: np.argmin(numbers[rows], 1, out=found[rows]), row_tiles(len(numbers), step)):
            pass


class Lloyd:
    """Restarts of Lloyd's algorithm on one sample of the points. No value leaves the device, except to see on the CPU that it is done."""

    def __init__(self, share: Share, clusters: int, spherical: bool, scores: Scores, *, greedy: bool = False) -> None:
        self.share, self.clusters, self.spherical, self.scores, self.greedy = share, clusters, spherical, scores, greedy
        self.offset = share.processes.sum(share.squares.sum())

    def best_of(self, restarts: int, iterations: int, seed: int, start: Tensor | None) -> tuple[Tensor, int]:
        """The centroids (K, D) of the best restart, and how many clusters it started anew."""
        device = self.share.points.device
        trials = greedy_trials(self.clusters)
        shape = (self.clusters, trials) if self.greedy else (3, _CANDIDATES_PER_SEED * self.clusters)
        draws = [generator(seed, "k-means seeds", restart).random(shape) for restart in range(restarts)]
        uniforms = torch.from_numpy(np.stack(draws)).to(device)
        best = torch.zeros(self.clusters, self.share.points.shape[1], device=device)
        smallest = torch.full((), torch.inf, dtype=torch.float64, device=device)
        reseeded = torch.zeros((), dtype=torch.int64, device=device)
        for restart in range(restarts):
            seeds = self._greedy_seeds if self.greedy else self._seeds
            first = seeds(uniforms[restart]) if start is None else start
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

    def _greedy_seeds(self, uniforms: Tensor) -> Tensor:
        """K of the points (K, D), with K x trials random numbers: each the one of its trials that leaves the smallest sum of distances."""
        share = self.share
        if self.clusters == share.total:
            return share.at(torch.arange(share.total, device=uniforms.device), share.points)
        weights = torch.ones(len(share.points), dtype=torch.float64, device=uniforms.device)
        seeds: list[Tensor] = []
        for number, drawn in enumerate(uniforms):
            # The first seed is any point: nothing is known yet that trials could be compared by.
            drawn = drawn if number else drawn[:1]
            candidates = self._shaped(share.at(share.draw(weights, drawn), share.points))
            distance = torch.empty(len(share.points), len(candidates), dtype=torch.float64, device=uniforms.device)
            for rows, scores in self.scores.tiles(share, candidates):
                torch.add(share.squares[rows, None], scores, out=distance[rows])
            distance.clamp_(min=0)
            if number:
                torch.minimum(distance, weights[:, None], out=distance)
            best = share.processes.sum(distance.sum(0)).argmin(keepdim=True)
            weights = distance.index_select(1, best)[:, 0]
            seeds.append(candidates.index_select(0, best))
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
        summed = self.share.processes.sum(summed)
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


def _sorted(assignment: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """The points' order by cluster, stable, and their clusters in that order."""
    if assignment.device.type == "cpu":
        # NumPy sorts numbers of 16 bits in linear time.
        numbers = assignment.numpy().astype(np.uint16) if clusters <= 1 << 16 else assignment.numpy()
        order = torch.from_numpy(np.argsort(numbers, kind="stable"))
        return order, assignment[order]
    ordered, order = assignment.sort(stable=True)
    return order, ordered


@contextmanager
def argmin_pool(device: torch.device) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that look for minima on the CPU, as many as torch multiplies with."""
    if device.type == "cpu" and torch.get_num_threads() > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            yield pool
    else:
        yield None
