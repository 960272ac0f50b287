"""What a model is worth: features, the tasks of ``evaluate`` as functions, and the parts that every training shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from zoo.lazy import check_not_hidden, lazy_names
except ModuleNotFoundError as error:
    hidden = "something called 'zoo' beside your program hides backbone-loop's package 'zoo'; rename it, or start Python in another folder"
    raise ImportError(f"{hidden} ({error})") from error

check_not_hidden("zoo")

if TYPE_CHECKING:
    from evaluation.extraction.cache import FeatureCache
    from evaluation.extraction.features import Features, extract_features
    from evaluation.extraction.labelled import LabelledData, labelled_data
    from evaluation.search import top_k
    from evaluation.statistics.comparison import compare_answers
    from evaluation.tasks.cluster.evaluate import evaluate_clustering
    from evaluation.tasks.cluster.run import run_cluster
    from evaluation.tasks.cluster.scores import cluster_scores
    from evaluation.tasks.feature_file.run import run_features, write_features
    from evaluation.tasks.finetune.run import run_finetune
    from evaluation.tasks.finetune.training import fine_tune
    from evaluation.tasks.knn.run import run_knn
    from evaluation.tasks.knn.votes import KnnEvaluation, evaluate_knn
    from evaluation.tasks.linear.logistic import fit_logistic_regression
    from evaluation.tasks.linear.run import run_linear
    from evaluation.tasks.linear.training import train_linear
    from evaluation.tasks.places205.run import run_places205
    from evaluation.tasks.runtime import Runtime
    from evaluation.tasks.semi.label_lists import simclr_list
    from evaluation.tasks.semi.pseudo_labels import choose_pseudo_labels
    from evaluation.tasks.semi.run import run_semi
    from evaluation.tasks.top1.run import run_top1
    from evaluation.tasks.voc07.precision import average_precision
    from evaluation.tasks.voc07.run import run_voc07
    from evaluation.tasks.voc07.svm import evaluate_low_shot, evaluate_svm
    from evaluation.verbs import cluster, extract, knn, linear, measure, quality, semi

_HOMES = {
    "FeatureCache": "extraction.cache",
    "Features": "extraction.features",
    "KnnEvaluation": "tasks.knn.votes",
    "LabelledData": "extraction.labelled",
    "Runtime": "tasks.runtime",
    "average_precision": "tasks.voc07.precision",
    "choose_pseudo_labels": "tasks.semi.pseudo_labels",
    "cluster": "verbs",
    "cluster_scores": "tasks.cluster.scores",
    "compare_answers": "statistics.comparison",
    "evaluate_clustering": "tasks.cluster.evaluate",
    "evaluate_knn": "tasks.knn.votes",
    "evaluate_low_shot": "tasks.voc07.svm",
    "evaluate_svm": "tasks.voc07.svm",
    "extract": "verbs",
    "extract_features": "extraction.features",
    "fine_tune": "tasks.finetune.training",
    "fit_logistic_regression": "tasks.linear.logistic",
    "knn": "verbs",
    "labelled_data": "extraction.labelled",
    "linear": "verbs",
    "measure": "verbs",
    "quality": "verbs",
    "run_cluster": "tasks.cluster.run",
    "run_features": "tasks.feature_file.run",
    "run_finetune": "tasks.finetune.run",
    "run_knn": "tasks.knn.run",
    "run_linear": "tasks.linear.run",
    "run_places205": "tasks.places205.run",
    "run_semi": "tasks.semi.run",
    "run_top1": "tasks.top1.run",
    "run_voc07": "tasks.voc07.run",
    "semi": "verbs",
    "simclr_list": "tasks.semi.label_lists",
    "top_k": "search",
    "train_linear": "tasks.linear.training",
    "write_features": "tasks.feature_file.run",
}

__all__ = [
    "FeatureCache",
    "Features",
    "KnnEvaluation",
    "LabelledData",
    "Runtime",
    "average_precision",
    "choose_pseudo_labels",
    "cluster",
    "cluster_scores",
    "compare_answers",
    "evaluate_clustering",
    "evaluate_knn",
    "evaluate_low_shot",
    "evaluate_svm",
    "extract",
    "extract_features",
    "fine_tune",
    "fit_logistic_regression",
    "knn",
    "labelled_data",
    "linear",
    "measure",
    "quality",
    "run_cluster",
    "run_features",
    "run_finetune",
    "run_knn",
    "run_linear",
    "run_places205",
    "run_semi",
    "run_top1",
    "run_voc07",
    "semi",
    "simclr_list",
    "top_k",
    "train_linear",
    "write_features",
]

__getattr__ = lazy_names(__name__, _HOMES)
