"""k-means on frozen features, and how its clusters agree with labels: the task `cluster`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.cluster.evaluate import Clustering, evaluate_clustering
    from evaluation.cluster.run import run_cluster
    from evaluation.cluster.scores import ClusterScores, cluster_scores

# Imported when they are asked for: the command reads the presets, and does without torch for that.
_HOMES = {
    "ClusterScores": "scores",
    "Clustering": "evaluate",
    "cluster_scores": "scores",
    "evaluate_clustering": "evaluate",
    "run_cluster": "run",
}

__all__ = ["ClusterScores", "Clustering", "cluster_scores", "evaluate_clustering", "run_cluster"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.cluster' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.cluster.{_HOMES[name]}"), name)
