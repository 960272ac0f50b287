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
# Restarts go together, in the same calls, where that makes at most so many scores in all: of small problems, calls are what costs.
_SCORES_TOGETHER = 1 << 23
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
        """int64 (n, R): of each of R sets of centroids (R, K, D) the first of those nearest to each point."""
        found = torch.empty(len(share.points), len(centroids), dtype=torch.int64, device=share.points.device)
        for rows, scores in self.tiles(share, centroids.flatten(0, 1)):
            self._argmin(scores.view(-1, *centroids.shape[:2]), found[rows])
        return found

    def least(self, share: Share, centroids: Tensor) -> Tensor:
        """float64 (n, R): the squared distance to the nearest of each set of centroids (R, K, D), in the precision of float32."""
        found = share.squares.new_empty(len(share.points), len(centroids))
        for rows, scores in self.tiles(share, centroids.flatten(0, 1)):
            torch.add(share.squares[rows, None], scores.view(-1, *centroids.shape[:2]).amin(2), out=found[rows])
        return found.clamp_(min=0)

    def _rows(self, device: torch.device, clusters: int) -> int:
        rows = max(1, self.most // clusters)
        return min(rows, _CPU_ROWS_PER_THREAD * torch.get_num_threads()) if device.type == "cpu" else rows

    def _argmin(self, scores: Tensor, nearest: Tensor) -> None:
        if scores.device.type != "cpu":
            torch.argmin(scores, 2, out=nearest)
            return
        # NumPy's search is vectorised along a row, and several times as fast as torch's.
        numbers, found = scores.numpy(), nearest.numpy()
        if self.pool is None:
            np.argmin(numbers, 2, out=found)
            return
        step = -(-len(numbers) // torch.get_num_threads())
        for _ in self.pool.map(lambda rows: np.argmin(numbers[rows], 2, out=found[rows]), row_tiles(len(numbers), step)):
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
        for drawn in uniforms.split(max(1, _SCORES_TOGETHER // (self.share.total * self.clusters))):
            if start is not None:
                first = start[None]
            else:
                first = torch.stack([self._greedy_seeds(one) for one in drawn]) if self.greedy else self._seeds(drawn)
            for centroids, objective, again in zip(*self._run(self._shaped(first), iterations), strict=True):
                better = objective < smallest
                best, smallest = torch.where(better, centroids, best), torch.where(better, objective, smallest)
                reseeded = torch.where(better, again, reseeded)
        return best, int(reseeded)

    def _run(self, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of R restarts that begin with centroids (R, K, D): these after the iterations, the objectives (R,) before the last change of
        them (as faiss compares restarts), and how many clusters were reseeded (R,)."""
        origin, left = self.share.origin, torch.arange(len(centroids), device=centroids.device)
        found, reseeded = torch.empty_like(centroids), torch.zeros_like(left)
        objectives = torch.zeros(len(left), dtype=torch.float64, device=centroids.device)
        for iteration in range(iterations):
            sums, squares, counts = self._sums(self.scores.nearest(self.share, centroids))
            # |x - c|^2 = |x - o|^2 - (c - o).(2 x - c - o), summed over the points of each cluster.
            before = centroids.double()
            gains = ((before - origin) * (2 * sums - counts[:, :, None] * (before + origin))).sum(2)
            objectives[left] = self.offset - gains.sum(1)
            reseeded[left] += (counts == 0).sum(1)
            means = self._filled(sums / counts.clamp(min=1)[:, :, None], (squares - gains).clamp_(min=0), counts)
            previous, centroids = centroids, self._shaped(means.float())
            if centroids.device.type != "cpu":
                continue
            # Where nothing changed the rest would repeat this iteration. On a GPU the question would cost more than the answer spares.
            moved = (previous != centroids).flatten(1).any(1)
            if iteration + 1 < iterations and not moved.all():
                found[left[~moved]], left, centroids = centroids[~moved], left[moved], centroids[moved]
                if len(left) == 0:
                    return found, objectives, reseeded
        found[left] = centroids
        return found, objectives, reseeded

    def _shaped(self, centroids: Tensor) -> Tensor:
        return functional.normalize(centroids, dim=-1) if self.spherical else centroids

    def _seeds(self, uniforms: Tensor) -> Tensor:
        """K of the points (R, K, D) for each of R restarts, with random numbers (R, 3, 2 K)."""
        share, restarts = self.share, len(uniforms)
        if self.clusters == share.total:
            return share.at(torch.arange(share.total, device=uniforms.device), share.points).expand(restarts, -1, -1)
        weights = torch.ones(len(share.points), restarts, dtype=torch.float64, device=uniforms.device)
        seeds: list[Tensor] = []
        done = 0
        while done < self.clusters:
            wanted = min(-(-(self.clusters - done) // _MISSING_PER_ROUND), _SEEDS_PER_ROUND) if seeds else 1
            drawn = uniforms[:, :, _CANDIDATES_PER_SEED * done : _CANDIDATES_PER_SEED * (done + wanted)]
            chosen = self._chosen(weights, drawn, wanted)
            distance = self.scores.least(share, chosen)
            weights = torch.minimum(weights, distance) if seeds else distance
            seeds.append(chosen)
            done += wanted
        return torch.cat(seeds, dim=1)

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
            candidates = self._shaped(share.at(share.draw(weights[None], drawn[None])[0], share.points))
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
        """So many of the points for each restart, as if drawn one after the other with probability in proportion to what each leaves of
        the weights (n, R)."""
        share = self.share
        positions = share.draw(weights.T, uniforms[:, 0]).gather(1, uniforms[:, 1].argsort(1))
        candidates = self._shaped(share.at(positions, share.points))
        # A candidate among earlier ones has only this distance left of the weight by which it was drawn.
        apart = torch.cdist(candidates - share.origin, candidates - share.origin).square_()
        later = torch.ones(apart.shape[1:], dtype=torch.bool, device=apart.device).triu_()
        refused = apart.masked_fill_(later, torch.inf).amin(2) < uniforms[:, 2] * share.at(positions, weights).diagonal(dim1=0, dim2=2).T
        # Refused ones come last: they are taken only where too few are left.
        taken = refused.byte().argsort(dim=1, stable=True)[:, :wanted]
        return candidates.gather(1, taken[:, :, None].expand(-1, -1, candidates.shape[2]))

    def _sums(self, assignment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each cluster of R restarts, to which the points are assigned (n, R): the sum of its points (R, K, D), of their squared
        distances to the origin (R, K), and their number (R, K); in float64, of all processes."""
        points, device = self.share.points, self.share.points.device
        (count, restarts), clusters = assignment.shape, assignment.shape[1] * self.clusters
        if count == 0:
            summed = torch.zeros(clusters, points.shape[1] + 2, dtype=torch.float64, device=device)
        else:
            numbers = (assignment + self.clusters * torch.arange(restarts, device=device)).flatten()
            order, ordered = _sorted(numbers, clusters)
            starts = torch.searchsorted(ordered, torch.arange(clusters, device=device))
            counts = starts.diff(append=starts.new_full((1,), len(order)))
            # Runs of rows end with a cluster, and after every 256 rows of a restart; then the runs of each cluster are summed.
            ends = count * torch.arange(restarts, device=device)[:, None] + torch.arange(0, count, _ROWS_PER_SUM, device=device)
            runs = torch.cat([starts, ends.flatten()]).sort().values
            of_cluster = torch.searchsorted(runs, starts)
            every = torch.arange(len(runs), device=device)
            rows = torch.div(order, restarts, rounding_mode="floor") if restarts > 1 else order
            in_runs = functional.embedding_bag(rows, points, runs, mode="sum").double()
            sums = functional.embedding_bag(every, in_runs, of_cluster, mode="sum")
            # On a GPU these additions have no fixed order; they only say which clusters have the largest errors.
            of_points = self.share.squares[:, None].expand(-1, restarts).flatten()
            squares = self.share.squares.new_zeros(clusters).index_add_(0, numbers, of_points)
            summed = torch.cat([sums, squares[:, None], counts[:, None].double()], dim=1)
        summed = self.share.processes.sum(summed).view(restarts, self.clusters, -1)
        return summed[:, :, :-2], summed[:, :, -2], summed[:, :, -1]

    def _filled(self, means: Tensor, errors: Tensor, counts: Tensor) -> Tensor:
        """The means (R, K, D), and for each empty cluster a point beside the mean of one of its restart with a large error, so that they
        share its points."""
        empty = counts == 0
        if empty.device.type == "cpu" and not empty.any():
            return means
        order = errors.argsort(dim=1, descending=True, stable=True)
        # Clusters with more than the mean error give, by turns, those with larger ones first.
        number = empty.cumsum(1) - 1
        givers = (errors > errors.mean(1, keepdim=True)).sum(1, keepdim=True).clamp_(min=1)
        giver = order.gather(1, number.clamp(min=0) % givers)
        turn = torch.div(number, givers, rounding_mode="floor") + 1
        spread = (errors.gather(1, giver) / counts.gather(1, giver).clamp(min=1) / means.shape[2]).sqrt_()
        signs = 1 - 2 * (torch.arange(means.shape[2], device=means.device) % 2)
        given = means.gather(1, giver[:, :, None].expand_as(means))
        return torch.where(empty[:, :, None], given + (_SPLIT * turn * spread)[:, :, None] * signs, means)


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
