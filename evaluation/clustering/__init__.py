"""k-means on one level and on a hierarchy of levels, on CPU and GPU, in one process and in several; and what clusters say about labels."""

from evaluation.clustering.evaluate import Clustering, evaluate_clustering
from evaluation.clustering.hierarchy import Hierarchy, check_levels, hierarchical_kmeans
from evaluation.clustering.kmeans import KMeans, kmeans
from evaluation.clustering.scores import ClusterScores, cluster_scores

__all__ = [
    "ClusterScores",
    "Clustering",
    "Hierarchy",
    "KMeans",
    "check_levels",
    "cluster_scores",
    "evaluate_clustering",
    "hierarchical_kmeans",
    "kmeans",
]
