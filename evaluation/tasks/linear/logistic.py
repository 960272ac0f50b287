"""Logistic regression with an L2 penalty, to its minimum: what scikit-learn's ``LogisticRegression`` minimises, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from evaluation.arrays import Matrix, as_matrix
from evaluation.extraction.checks import check_finite, checked_labels
from evaluation.tasks.linear.batches import near

# Newton steps: a handful suffices where the data can be told apart or not; more mean that something is wrong with the numbers.
MAX_ITERATIONS = 200
# Norm of the gradient at the end, as a share of the norm of the data term's gradient. The penalty's gradient is as long as that at the
# minimum, so that the weights are then about this share of their length from the minimum, whatever C is. (Biases, which are not penalised,
# can make it more where features are large.)
TOLERANCE = 1e-5
# A Newton step is found to this share of the gradient at most; nearer to the minimum more exactly.
_LOOSEST_STEP = 0.5
_LAST_STEP = 0.1
_MAX_PRODUCTS = 2000
_PRODUCTS_UNSEEN = 8
# Armijo's condition: the share of the decrease that the slope promises.
_SUFFICIENT = 1e-4
_MAX_HALVINGS = 40
_ROUNDING = 16 * torch.finfo(torch.float64).eps
# Values (rows x width, float64) converted at a time.
_VALUES_AT_ONCE = 1 << 23
# Products with the Hessian are of float32 numbers while its largest curvature may be so many times the smallest at most: their rounding,
# 6e-8 of the largest, is then little beside the smallest, and a Newton step needs no more. Loss and gradient stay float64.
_LARGEST_CONDITION = 1e6
# A step by float32 is checked in float64: one that leaves so many times what it was to leave is found again, and all further ones are, in
# float64.
_SPOILT = 2.0
# Probabilities below this are nothing to a product of float32, and slow where they are too small for its normal numbers.
_LEAST_PROBABILITY = 1e-30
# Probabilities (rows x classes, float64) that are kept between the products of one Newton step: 512 MB.
_PROBABILITIES_KEPT = 1 << 26


@dataclass(frozen=True, eq=False)
class LogisticRegression:
    """A linear classifier at the minimum of its penalised loss.

    Attributes
    ----------
    weight, bias
        float64 arrays (C, D) and (C,); (1, D) and (1,) for two classes, whose second class has the output and the first has 0.
    c
        Inverse strength of the penalty.
    iterations
        Newton steps.
    converged
        Whether the gradient's tolerance was reached.
    relative_gradient
        Norm of the gradient at the end, as a share of the norm of the data term's gradient.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    c: float
    iterations: int
    converged: bool
    relative_gradient: float

    def layer(self) -> tuple[Tensor, Tensor]:
        """float32 weights (C, D) and biases (C,), also of two classes."""
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        if len(bias) == 1:
            weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
        return weight.float(), bias.float()

    def outputs(self, features: Matrix, device: torch.device | str = "cpu") -> Tensor:
        """float64 (Q, C) on the CPU, of features (Q, D)."""
        rows = as_matrix(features, "features", least_rows=0)
        weight, bias = torch.from_numpy(self.weight).to(device), torch.from_numpy(self.bias).to(device)
        step = max(1, _VALUES_AT_ONCE // rows.shape[1])
        return torch.cat([_all_classes(torch.addmm(bias, part.to(weight), weight.T)).cpu() for part in rows.split(step)])


def fit_logistic_regression(
    features: Matrix,
    labels: ArrayLike,
    *,
    c: float = 1.0,
    num_classes: int | None = None,
    start: LogisticRegression | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    device: torch.device | str | None = None,
) -> LogisticRegression:
    """Minimise ``C * sum of cross-entropies + |weights|² / 2``; biases are not penalised.

    scikit-learn's ``LogisticRegression`` has the same minimum. It is found by Newton's method, each step by conjugate gradients (Nocedal
    and Wright, Numerical Optimization, 2006, algorithm 7.1) and a line search, on features whose mean is taken off (the biases make up
    for it). Loss and gradient are summed in float64 on the device, from features that may lie anywhere, in bounded memory. So are products
    with the Hessian, except on a CPU where the penalty is not too weak: there float32 finds steps that are as good, in half the time.

    Parameters
    ----------
    features
        (N, D): a tensor or an array of any real numbers (:func:`evaluation.arrays.as_matrix`).
    labels
        Whole numbers (N,) from 0 on.
    c
        Inverse strength of the penalty.
    num_classes
        By default the largest label plus one, at least 2.
    start
        Where to begin: the solution at another C. By default at zero.
    tolerance
        Norm of the gradient at which to end, as a share of the norm of the data term's gradient.
    device
        Where sums are computed; by default where the features are.

    Raises
    ------
    UserError
        Features that are not finite.
    ValueError
        Shapes, labels or a C that make no sense.
    """
    rows = as_matrix(features, "features")
    check_finite(rows, "train")
    truth = checked_labels(labels, len(rows), "train")
    classes = max(2, int(truth.max()) + 1) if num_classes is None else num_classes
    if not 0 < c < float("inf"):
        raise ValueError(f"C must be positive, not {c}")
    if int(truth.max()) >= classes:
        raise ValueError(f"there is a label {int(truth.max())}, but num_classes is {classes}")
    place = rows.device if device is None else torch.device(device)
    loss = _Loss(rows, truth, c, 1 if classes == 2 else classes, place)
    begin = torch.zeros(loss.shape, dtype=torch.float64, device=place)
    if start is not None:
        begin[:, :-1], begin[:, -1] = torch.from_numpy(start.weight), torch.from_numpy(start.bias)
        begin[:, -1] += begin[:, :-1] @ loss.mean
    solution, iterations, relative = _minimum(loss, begin, tolerance, max_iterations)
    weight = solution[:, :-1]
    bias = solution[:, -1] - weight @ loss.mean
    return LogisticRegression(weight.cpu().numpy().copy(), bias.cpu().numpy().copy(), c, iterations, relative <= tolerance, relative)


def _minimum(loss: _Loss, at: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, int, float]:
    """The parameters at the minimum, Newton steps taken, and the gradient's norm as a share of the data term's."""
    value, gradient, relative = loss.gradient(at)
    iterations = 0
    while relative > tolerance and iterations < max_iterations:
        # Loose steps far away, exact ones near by: this makes the last steps converge faster than linearly. The last one need not be more
        # exact than what ends the search.
        direction = _newton_step(loss, gradient, max(min(_LOOSEST_STEP, relative**0.5), _LAST_STEP * tolerance / relative))
        slope = float((gradient * direction).sum())
        # Close to the minimum the decrease is smaller than what float64 resolves of the loss.
        resolution = 8 * torch.finfo(torch.float64).eps * abs(value)
        length = 1.0
        for _ in range(_MAX_HALVINGS):
            there = at + length * direction
            found, its_gradient, its_relative = loss.gradient(there)
            if found <= value + _SUFFICIENT * length * slope + resolution:
                break
            length /= 2
        else:
            break
        at, value, gradient, relative = there, found, its_gradient, its_relative
        iterations += 1
    return at, iterations, relative


def _newton_step(loss: _Loss, gradient: Tensor, share: float) -> Tensor:
    """A step that leaves about ``share`` of the gradient; where the loss was computed last."""
    step = _conjugate_gradients(loss, gradient, share, loss.single)
    if loss.single and bool((loss.hessian_times(step) + gradient).norm() > _SPOILT * share * gradient.norm()):
        loss.single = False
        step = _conjugate_gradients(loss, gradient, share, single=False)
    return step


def _conjugate_gradients(loss: _Loss, gradient: Tensor, share: float, single: bool) -> Tensor:
    """The step at which what is left is ``share`` of the gradient, by products of float32 numbers if ``single``."""
    # On a GPU the host does not wait for every product to learn whether it was the last one.
    seldom = 1 if gradient.device.type == "cpu" else _PRODUCTS_UNSEEN
    step = torch.zeros_like(gradient)
    left = -gradient
    direction = left.clone()
    square = left.square().sum()
    enough = share**2 * square
    nothing = torch.zeros_like(square)
    for product_number in range(1, _MAX_PRODUCTS + 1):
        product = loss.hessian_times(direction, single)
        curvature = (direction * product).sum()
        # The loss is convex: a curvature that is not positive is rounding, and ends the search.
        length = torch.where(curvature > 0, square / curvature, nothing)
        step += length * direction
        left -= length * product
        before, square = square, left.square().sum()
        if product_number % seldom == 0 and bool((square <= enough) | (length == 0)):
            break
        direction = left + torch.where(before > 0, square / before, nothing) * direction
    return step


class _Loss:
    """The objective divided by ``C * N``, its gradient, and products with its Hessian.

    Parameters and gradients are float64 (free classes, D + 1), biases last; features have their mean taken off.
    """

    def __init__(self, features: Tensor, labels: Tensor, c: float, free: int, device: torch.device) -> None:
        self.labels, self.device = labels.to(device), device
        self.shape = (free, features.shape[1] + 1)
        self.penalty = 1 / (c * len(features))
        self.step = max(1, _VALUES_AT_ONCE // self.shape[1])
        self._whole = features.numel() <= _VALUES_AT_ONCE
        self._features = features if self._whole else near(features, device)
        total = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
        squares = torch.zeros((), dtype=torch.float64, device=device)
        for start in range(0, len(features), self.step):
            part = self._features[start : start + self.step].to(device, torch.float64)
            total += part.sum(0)
            squares += part.square().sum()
        self.mean = total / len(features)
        # No curvature of the data's part is above the features' variance; none at all of the weights' below the penalty.
        variance = squares / len(features) - self.mean.square().sum()
        self.single = device.type == "cpu" and features.dtype != torch.float64 and bool(variance <= _LARGEST_CONDITION * self.penalty)
        self._mean32 = self.mean.float()
        self._features32: Tensor | None = None
        # A gradient is a mean of features and ones times at most 1: what rounding leaves of a gradient of zero.
        self._nothing = _ROUNDING * (squares / len(features) + 1).sqrt()
        if self._whole:  # converted once
            self._features = features.to(device, torch.float64) - self.mean
            self._features32 = self._features.float() if self.single else None
        self._keeps = len(features) * max(2, free) <= _PROBABILITIES_KEPT
        self._at = torch.zeros(self.shape, dtype=torch.float64, device=device)
        self._probabilities: list[Tensor] = []

    def _parts(self, single: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Features, mean taken off, in float64 or float32, and labels, in parts."""
        for start in range(0, len(self._features), self.step):
            part = self._features[start : start + self.step]
            if single and self._features32 is not None:
                part = self._features32[start : start + self.step]
            elif self._whole:
                pass
            elif single:
                part = part.to(self.device, torch.float32) - self._mean32
            else:
                part = part.to(self.device, torch.float64) - self.mean
            yield part, self.labels[start : start + self.step]

    def gradient(self, parameters: Tensor) -> tuple[float, Tensor, float]:
        """Value, gradient, and the gradient's norm as a share of the norm of its data term."""
        weight, bias = parameters[:, :-1], parameters[:, -1]
        value = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(parameters)
        self._at, self._probabilities = parameters, []
        for part, truth in self._parts():
            logs = functional.log_softmax(_all_classes(torch.addmm(bias, part, weight.T)), dim=1)
            value -= logs.gather(1, truth[:, None]).sum()
            residual = logs.exp_()
            if self._keeps:
                self._probabilities.append(residual.clone())
            residual[torch.arange(len(part), device=self.device), truth] -= 1
            self._add(gradient, part, residual)
        count = len(self._features)
        gradient /= count
        data_norm = gradient.norm()
        gradient[:, :-1] += self.penalty * weight
        total = value / count + 0.5 * self.penalty * weight.square().sum()
        norm = gradient.norm()
        relative = torch.where(norm > self._nothing, norm / data_norm, torch.zeros_like(norm))
        found, share = torch.stack([total, relative]).tolist()
        return found, gradient, share

    def hessian_times(self, direction: Tensor, single: bool = False) -> Tensor:
        """The Hessian, where the gradient was computed last, times ``direction``, by float32 products if ``single``."""
        kind = torch.float32 if single else torch.float64
        product = torch.zeros_like(direction)
        weight, bias, moved = self._at[:, :-1].to(kind), self._at[:, -1].to(kind), direction.to(kind)
        for number, (part, _) in enumerate(self._parts(single)):
            if self._keeps:
                likely = self._probabilities[number].to(kind)
            else:
                likely = functional.softmax(_all_classes(torch.addmm(bias, part, weight.T)), dim=1)
            if single:
                likely.masked_fill_(likely < _LEAST_PROBABILITY, 0)
            change = likely * _all_classes(torch.addmm(moved[:, -1], part, moved[:, :-1].T))
            change -= likely * change.sum(1, keepdim=True)
            self._add(product, part, change)
        product /= len(self._features)
        product[:, :-1] += self.penalty * direction[:, :-1]
        return product

    def _add(self, total: Tensor, part: Tensor, outer: Tensor) -> None:
        """Add the sums over images of ``outer`` (B, C) times features; with two classes the first has no parameters."""
        free = outer[:, -self.shape[0] :]
        if free.dtype == total.dtype:
            total[:, :-1].addmm_(free.T, part)
        else:
            total[:, :-1] += free.T @ part
        total[:, -1] += free.sum(0)


def _all_classes(outputs: Tensor) -> Tensor:
    """Outputs (B, C); those of two classes have one column, the first class's being 0."""
    return functional.pad(outputs, (1, 0)) if outputs.shape[1] == 1 else outputs
