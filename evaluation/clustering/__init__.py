"""k-means on one level and on a hierarchy of levels, on CPU and GPU, in one process and in several."""

from evaluation.clustering.hierarchy import Hierarchy, check_levels, hierarchical_kmeans
from evaluation.clustering.kmeans import KMeans, kmeans

__all__ = ["Hierarchy", "KMeans", "check_levels", "hierarchical_kmeans", "kmeans"]
