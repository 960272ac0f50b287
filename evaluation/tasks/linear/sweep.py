"""Logistic regression at several strengths of its penalty, of which held-out training images choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evaluation.extraction.features import Features
from evaluation.extraction.image_bar import image_bar
from evaluation.extraction.subsets import folds_of, hold_out_doubts, split_off
from evaluation.statistics.accuracy import Accuracy, count_correct
from evaluation.tasks.linear.logistic import MAX_ITERATIONS, TOLERANCE, LogisticRegression, fit_logistic_regression
from evaluation.tasks.linear.presets import LinearPreset
from evaluation.tasks.runtime import Runtime

RULE = "most right answers on held-out images; of equals the smallest held-out log-loss; of equals the stronger penalty"
# Log-losses that agree to so many digits are equal: fits end within a tolerance.
_DIGITS = 6


@dataclass
class Answers:
    """What a training says, for a result."""

    by_name: dict[str, Accuracy]
    counts: dict[str, int] = field(default_factory=dict)
    clamped: dict[str, int] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    layer: tuple[torch.Tensor, torch.Tensor] | None = None  # weights and biases of the classifier that the headline is of


def sweep_logistic(
    preset: LinearPreset,
    train: Features,
    labels: NDArray[np.int64],
    test: Features,
    truth: NDArray[np.int64],
    classes: int,
    runtime: Runtime,
    *,
    folds: int = 0,
) -> Answers:
    """C by held-out training images (:data:`RULE`), then all training images at that C, everything to the same convergence.

    Parameters
    ----------
    folds
        Hold out each of so many parts of the training images in turn, and add up; 0: hold out the preset's share once.
    """
    costs = sorted(preset.rates)
    sweep = _Sweep(costs, len(truth) if folds == 0 else 0)
    if len(costs) > 1:
        parts = folds_of(labels, folds, runtime.seed) if folds else [split_off(labels, preset.holdout, runtime.seed)[1]]
        with image_bar("logistic regression, values of C", len(costs) * len(parts), show=runtime.shows_progress) as done:
            for held_out in parts:
                kept = np.setdiff1d(np.arange(len(labels)), held_out)
                fit: LogisticRegression | None = None
                for place, c in enumerate(costs):
                    # From the solution at the next stronger penalty it is a short way.
                    fit = fit_logistic_regression(
                        train.features[kept], labels[kept], c=c, start=fit, num_classes=classes, device=runtime.device
                    )
                    sweep.held_out(place, fit, train.features[held_out], labels[held_out], runtime.device)
                    if not folds:
                        sweep.test(place, fit, test.features, truth, runtime.device)
                    done(1)
    chosen = costs[sweep.best()] if len(costs) > 1 else costs[0]
    last = fit_logistic_regression(train.features, labels, c=chosen, num_classes=classes, device=runtime.device)
    accuracy = count_correct(last.outputs(test.features, runtime.device), truth)
    return Answers(
        by_name={"selected": accuracy},
        layer=last.layer(),
        counts={} if folds or len(costs) == 1 else {"top1_best_on_test": int(sweep.test_correct.max())},
        protocol={
            "solver_tolerance": TOLERANCE,
            "max_iterations": MAX_ITERATIONS,
            **({"choice_of_c": RULE} if len(costs) > 1 else {}),
            **({"folds": folds} if folds else {}),
        },
        details={
            "chosen": {
                "selected": {
                    "c": chosen,
                    "iterations": last.iterations,
                    "converged": last.converged,
                    "relative_gradient": last.relative_gradient,
                }
            },
            "held_out": sweep.images,
            "sweep": sweep.describe() if len(costs) > 1 else {"c": costs},
            **({"warnings": doubts} if (doubts := [*sweep.doubts(last), *hold_out_doubts(sweep.images, classes)]) else {}),
        },
    )


class _Sweep:
    """What held-out images say of each C."""

    def __init__(self, costs: Sequence[float], tests: int) -> None:
        self.costs, self.tests, self.images = list(costs), tests, 0
        self.right, self.test_correct, self.iterations = (np.zeros(len(costs), np.int64) for _ in range(3))
        self.loss = np.zeros(len(costs))
        self.converged = np.ones(len(costs), bool)

    def held_out(
        self, place: int, fit: LogisticRegression, features: torch.Tensor, truth: NDArray[np.int64], device: torch.device
    ) -> None:
        outputs = fit.outputs(features, device)
        self.right[place] += int((outputs.argmax(1).numpy() == truth).sum())
        self.loss[place] += float(functional.cross_entropy(outputs, torch.from_numpy(truth), reduction="sum"))
        self.iterations[place] += fit.iterations
        self.converged[place] &= fit.converged
        if place == 0:
            self.images += len(truth)

    def test(self, place: int, fit: LogisticRegression, features: torch.Tensor, truth: NDArray[np.int64], device: torch.device) -> None:
        self.test_correct[place] = int((fit.outputs(features, device).argmax(1).numpy() == truth).sum())

    def best(self) -> int:
        """Position of the C that :data:`RULE` chooses; costs ascend."""
        return min(range(len(self.costs)), key=lambda place: (-self.right[place], float(f"{self.loss[place]:.{_DIGITS}g}"), place))

    def describe(self) -> dict[str, Any]:
        return {
            "c": self.costs,
            "held_out_correct": self.right.tolist(),
            "held_out_log_loss": [round(float(loss) / max(1, self.images), 6) for loss in self.loss],
            **({"test_correct": self.test_correct.tolist()} if self.tests else {}),
            "iterations": self.iterations.tolist(),
            "converged": self.converged.tolist(),
            "not_converged": [c for c, done in zip(self.costs, self.converged, strict=True) if not done],
        }

    def doubts(self, last: LogisticRegression) -> list[str]:
        """What a reader of the result must know."""
        found = []
        open_ends = [c for c, done in zip(self.costs, self.converged, strict=True) if not done]
        if open_ends:
            named = ", ".join(f"{c:.3g}" for c in open_ends[:5]) + (", ..." if len(open_ends) > 5 else "")
            found.append(f"logistic regression did not converge at {len(open_ends)} of {len(self.costs)} values of C ({named})")
        if not last.converged:
            found.append(f"logistic regression did not converge at the chosen C, {last.c:.3g}; the number is of where it stopped")
        return found
