"""What a model is worth: features, kNN, and the parts that every training shares."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.features import Features, extract_features
    from evaluation.knn import KnnEvaluation, evaluate_knn, run_knn
    from evaluation.labelled import LabelledData, labelled_data
    from evaluation.runtime import Runtime
    from evaluation.search import top_k

# Imported when they are asked for: torch takes seconds, and quick commands do without it.
_HOMES = {
    "Features": "features",
    "KnnEvaluation": "knn",
    "LabelledData": "labelled",
    "Runtime": "runtime",
    "evaluate_knn": "knn",
    "extract_features": "features",
    "labelled_data": "labelled",
    "run_knn": "knn",
    "top_k": "search",
}

__all__ = [
    "Features",
    "KnnEvaluation",
    "LabelledData",
    "Runtime",
    "evaluate_knn",
    "extract_features",
    "labelled_data",
    "run_knn",
    "top_k",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.{_HOMES[name]}"), name)
