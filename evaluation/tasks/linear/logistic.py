"""Logistic regression with an L2 penalty, to its minimum: what scikit-learn's ``LogisticRegression`` minimises, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from evaluation.extraction.checks import checked_labels
from evaluation.tasks.linear.training import near

MAX_ITERATIONS = 1000
# The largest entry of the gradient of the mean loss at which the search ends: scikit-learn's default.
TOLERANCE = 1e-4
_MAX_LINE_SEARCH = 50
# Values (rows x width, float64) converted at a time.
_VALUES_AT_ONCE = 1 << 23


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
        Of the optimiser.
    converged
        Whether the gradient's tolerance was reached.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    c: float
    iterations: int
    converged: bool

    def outputs(self, features: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """float64 (Q, C) on the CPU."""
        weight, bias = torch.from_numpy(self.weight).to(device), torch.from_numpy(self.bias).to(device)
        step = max(1, _VALUES_AT_ONCE // features.shape[1])
        return torch.cat([_all_classes(torch.addmm(bias, part.to(weight), weight.T)).cpu() for part in features.split(step)])


def fit_logistic_regression(
    features: Tensor | NDArray[np.floating],
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

    The optimiser is SciPy's L-BFGS-B, as in scikit-learn, whose coefficients this gives at the same C; loss and gradient are summed in
    float64 on the device, from features that may lie anywhere, in bounded memory.

    Parameters
    ----------
    features
        (N, D), of any floating dtype.
    labels
        Whole numbers (N,) from 0 on.
    c
        Inverse strength of the penalty.
    num_classes
        By default the largest label plus one, at least 2.
    start
        Where to begin: the solution at another C. By default at zero.
    tolerance
        Largest entry of the gradient, of the loss divided by ``C * N``, at which to end.
    device
        Where sums are computed; by default where the features are.

    Raises
    ------
    ValueError
        Shapes, labels or a C that make no sense.
    """
    rows = torch.as_tensor(features)
    truth = checked_labels(labels, len(rows), "train")
    classes = max(2, int(truth.max()) + 1) if num_classes is None else num_classes
    if not 0 < c < float("inf"):
        raise ValueError(f"C must be positive, not {c}")
    if int(truth.max()) >= classes:
        raise ValueError(f"there is a label {int(truth.max())}, but num_classes is {classes}")
    place = rows.device if device is None else torch.device(device)
    free = 1 if classes == 2 else classes
    shape = (free, rows.shape[1] + 1)
    begin = np.zeros(shape) if start is None else np.concatenate([start.weight, start.bias[:, None]], axis=1)
    loss = _Loss(rows, truth, c, shape, place)
    options = {"maxiter": max_iterations, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps, "maxls": _MAX_LINE_SEARCH}
    found = minimize(loss, begin.ravel(), method="L-BFGS-B", jac=True, options=options)
    solution = found.x.reshape(shape)
    return LogisticRegression(solution[:, :-1].copy(), solution[:, -1].copy(), c, int(found.nit), bool(found.success))


class _Loss:
    """The objective divided by ``C * N``, and its gradient, as SciPy calls it."""

    def __init__(self, features: Tensor, labels: Tensor, c: float, shape: tuple[int, int], device: torch.device) -> None:
        self.features, self.labels, self.shape, self.device = features, labels.to(device), shape, device
        if features.numel() <= _VALUES_AT_ONCE:  # converted once
            self.features = features.to(device, torch.float64)
        else:
            self.features = near(features, device)
        self.penalty = 1 / (c * len(features))
        self.step = max(1, _VALUES_AT_ONCE // shape[1])

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.from_numpy(flat.reshape(self.shape)).to(self.device)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        value = torch.zeros((), dtype=torch.float64, device=self.device)
        gradient = torch.zeros_like(parameters)
        for start in range(0, len(self.features), self.step):
            part = self.features[start : start + self.step].to(self.device, torch.float64)
            truth = self.labels[start : start + self.step]
            logs = functional.log_softmax(_all_classes(torch.addmm(bias, part, weight.T)), dim=1)
            value -= logs.gather(1, truth[:, None]).sum()
            residual = logs.exp_()
            residual[torch.arange(len(part), device=self.device), truth] -= 1
            residual = residual[:, -self.shape[0] :]  # with two classes the first has no parameters
            gradient[:, :-1] += residual.T @ part
            gradient[:, -1] += residual.sum(0)
        count = len(self.features)
        gradient /= count
        gradient[:, :-1] += self.penalty * weight
        total = value / count + 0.5 * self.penalty * weight.square().sum()
        return float(total), gradient.cpu().numpy().ravel()


def _all_classes(outputs: Tensor) -> Tensor:
    """Outputs (B, C); those of two classes have one column, the first class's being 0."""
    return functional.pad(outputs, (1, 0)) if outputs.shape[1] == 1 else outputs
