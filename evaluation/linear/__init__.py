"""Linear classifiers on frozen features."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.linear.logistic import LogisticRegression, fit_logistic_regression
    from evaluation.linear.run import run_linear
    from evaluation.linear.training import LinearTraining, train_linear

# Imported when they are asked for: the command reads the presets, and does without torch for that.
_HOMES = {
    "LinearTraining": "training",
    "LogisticRegression": "logistic",
    "fit_logistic_regression": "logistic",
    "run_linear": "run",
    "train_linear": "training",
}

__all__ = ["LinearTraining", "LogisticRegression", "fit_logistic_regression", "run_linear", "train_linear"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.linear' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.linear.{_HOMES[name]}"), name)
