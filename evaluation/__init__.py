"""What a model is worth: features, the tasks of ``evaluate`` as functions, and the parts that every training shares."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.cache import FeatureCache
    from evaluation.cluster import evaluate_clustering, run_cluster
    from evaluation.comparison import compare_answers
    from evaluation.feature_file import run_features
    from evaluation.features import Features, extract_features
    from evaluation.finetune import fine_tune, run_finetune
    from evaluation.knn import KnnEvaluation, evaluate_knn, run_knn
    from evaluation.labelled import LabelledData, labelled_data
    from evaluation.linear import fit_logistic_regression, run_linear, train_linear
    from evaluation.places205 import run_places205
    from evaluation.runtime import Runtime
    from evaluation.search import top_k
    from evaluation.semi import run_semi
    from evaluation.top1 import run_top1
    from evaluation.voc07 import run_voc07

# Imported when they are asked for: torch takes seconds, and quick commands do without it.
_HOMES = {
    "FeatureCache": "cache",
    "Features": "features",
    "KnnEvaluation": "knn",
    "LabelledData": "labelled",
    "Runtime": "runtime",
    "compare_answers": "comparison",
    "evaluate_clustering": "cluster",
    "evaluate_knn": "knn",
    "extract_features": "features",
    "fine_tune": "finetune",
    "fit_logistic_regression": "linear",
    "labelled_data": "labelled",
    "run_cluster": "cluster",
    "run_features": "feature_file",
    "run_finetune": "finetune",
    "run_knn": "knn",
    "run_linear": "linear",
    "run_places205": "places205",
    "run_semi": "semi",
    "run_top1": "top1",
    "run_voc07": "voc07",
    "top_k": "search",
    "train_linear": "linear",
}

__all__ = [
    "FeatureCache",
    "Features",
    "KnnEvaluation",
    "LabelledData",
    "Runtime",
    "compare_answers",
    "evaluate_clustering",
    "evaluate_knn",
    "extract_features",
    "fine_tune",
    "fit_logistic_regression",
    "labelled_data",
    "run_cluster",
    "run_features",
    "run_finetune",
    "run_knn",
    "run_linear",
    "run_places205",
    "run_semi",
    "run_top1",
    "run_voc07",
    "top_k",
    "train_linear",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.{_HOMES[name]}"), name)
