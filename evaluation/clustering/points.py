"""The points of a clustering, of which each process has a share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.parallel import Processes
from zoo.errors import UserError
from zoo.randomness import generator

# Rows whose squares are summed at a time, in float64.
ROWS_AT_ONCE = 1 << 14
# Squared norms from here on are not safe in float32, in which distances are computed.
_LARGEST_SQUARE = 1e36
# Units of the sum of all weights, where running sums are of whole numbers.
_FIXED_POINT = 1 << 52


@dataclass(frozen=True)
class Share:
    """This process's part of the points, and where it stands among all of them."""

    points: Tensor
    origin: Tensor  # float32 (D,): the mean of the points of all processes
    squares: Tensor  # float64 (n,): squared distances to the origin
    counts: tuple[int, ...]  # of the processes' points
    processes: Processes

    @classmethod
    def of(cls, points: Tensor, processes: Processes) -> Share:
        # The sizes travel first: a process that stops over its share must not leave the others waiting.
        size = torch.zeros(processes.count, dtype=torch.int64, device=points.device)
        size[processes.rank] = len(points)
        counts = tuple(processes.sum(size).tolist())
        summed = points.new_zeros(points.shape[1], dtype=torch.float64)
        for rows in row_tiles(len(points), ROWS_AT_ONCE):
            summed += points[rows].sum(0, dtype=torch.float64)
        origin = (processes.sum(summed) / max(1, sum(counts))).float()
        squares = torch.empty(len(points), dtype=torch.float64, device=points.device)
        for rows in row_tiles(len(points), ROWS_AT_ONCE):
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
        for rows in row_tiles(len(points), ROWS_AT_ONCE):
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

    def sample(self, most: int, seed: int) -> Share:
        """At most so many of the points of all processes, the same ones however they are shared."""
        if self.total <= most:
            return self
        chosen = np.sort(generator(seed, "k-means sample").permutation(self.total)[:most])
        bounds = np.searchsorted(chosen, np.cumsum([0, *self.counts]))
        start, stop = bounds[self.processes.rank], bounds[self.processes.rank + 1]
        rows = torch.from_numpy(chosen[start:stop] - self.first).to(self.points.device)
        return Share(self.points[rows], self.origin, self.squares[rows], tuple(np.diff(bounds).tolist()), self.processes)

    def at(self, positions: Tensor, values: Tensor) -> Tensor:
        """The rows of ``values``, of which each process holds its points', for positions, of any shape, among all points."""
        here = positions - self.first
        mine = (here >= 0) & (here < len(values))
        if len(values) == 0:
            found = values.new_zeros(*positions.shape, *values.shape[1:])
        else:
            found = values[here.clamp(0, len(values) - 1)]
            if self.processes.count > 1:
                found = found.masked_fill_(~mine.view(*mine.shape, *[1] * (values.ndim - 1)), 0)
        return self.processes.sum(found)

    def draw(self, weights: Tensor, uniforms: Tensor) -> Tensor:
        """Positions (R, b) among all points for R rows of weights (R, n): the i-th of a row is drawn with probability in proportion to
        weight within the i-th of b equal parts of the row's total weight."""
        running = _running_sum(weights)
        sizes = torch.zeros(len(weights), self.processes.count, dtype=torch.float64, device=weights.device)
        sizes[:, self.processes.rank] = running[:, -1:].sum(1)
        ends = _running_sum(self.processes.sum(sizes))
        parts = torch.arange(uniforms.shape[1], device=weights.device)
        targets = (parts + uniforms) / uniforms.shape[1] * ends[:, -1:]
        owner = torch.searchsorted(ends, targets, right=True).clamp_(max=self.processes.count - 1)
        # Rounding, or weights that are all zero, may lead past the last point.
        here = (targets - (ends - sizes)[:, self.processes.rank, None]).contiguous()
        within = torch.searchsorted(running, here, right=True)
        chosen = (within.clamp_(max=max(0, weights.shape[1] - 1)) + self.first).masked_fill_(owner != self.processes.rank, 0)
        return self.processes.sum(chosen).clamp_(max=self.total - 1)


def row_tiles(count: int, rows: int) -> Iterator[slice]:
    """Slices of at most ``rows`` of ``count`` rows, in order."""
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _running_sum(weights: Tensor) -> Tensor:
    """float64 (R, n): in each row the sum of each of the non-negative weights and those before it."""
    if weights.device.type == "cpu":
        return weights.contiguous().cumsum(1, dtype=torch.float64)
    # A GPU scans floating-point numbers in no fixed order, which torch refuses under deterministic=true; whole numbers need none.
    unit = weights.sum(1, keepdim=True, dtype=torch.float64).clamp(min=torch.finfo(torch.float32).tiny) / _FIXED_POINT
    return (weights / unit).round().to(torch.int64).cumsum(1).to(torch.float64) * unit
