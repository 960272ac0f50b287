"""k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.knn.run import run_knn, sample_queries
    from evaluation.knn.votes import KnnEvaluation, KnnScore, evaluate_knn

# Imported when they are asked for: the command reads the presets, and does without torch for that.
_HOMES = {"KnnEvaluation": "votes", "KnnScore": "votes", "evaluate_knn": "votes", "run_knn": "run", "sample_queries": "run"}

__all__ = ["KnnEvaluation", "KnnScore", "evaluate_knn", "run_knn", "sample_queries"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.knn' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.knn.{_HOMES[name]}"), name)
