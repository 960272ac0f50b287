"""Clustering of a model's features of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.extraction.splits import ROLES, LazySplits
from evaluation.tasks.cluster.evaluate import Clustering, evaluate_clustering
from evaluation.tasks.cluster.presets import CLASSES, TASK, ClusterPreset
from evaluation.tasks.cluster.scores import MEASURES
from evaluation.tasks.measurement import made_ready, measurement
from evaluation.tasks.runtime import Runtime
from zoo.data.base import Data, Images
from zoo.errors import UserError
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model

# Clusters of which a result lists images, the largest ones first, and how many of each, the nearest to the centroid first.
SHOWN_CLUSTERS, SHOWN_IMAGES = 12, 8


def run_cluster(
    model: Model,
    data: Data | LazySplits,
    *,
    preset: str | ClusterPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Cluster the features of a split by k-means, and compare the clusters with the labels of every level.

    Metrics are in percent: ``nmi_k10``, ``ami_k10``, ``ari_k10``, ``fmi_k10`` and, where there are as many clusters as classes,
    ``accuracy_k10``, at the level that the data were prepared for; the same of other levels behind the level's name
    (``superclass/ami_k10``). ``distance_k10`` is the mean squared distance of a feature, of unit length, to its centroid: all there is
    where images have no labels.

    Parameters
    ----------
    model, image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`. The runtime's seed is that of k-means.
    data
        As :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.splits.lazy_splits`.
    preset
        A name in :data:`evaluation.tasks.cluster.presets.CLUSTER_PRESETS`, or such a preset with changes
        (``CLUSTER_PRESETS["hirl"].change(clusters=[10, 100], split="train")``).

    Raises
    ------
    UserError
        No such split; no labels, and no number of clusters given either; more clusters than images; what extraction refuses.
    """
    splits, chosen, runtime = made_ready(TASK, data, preset, runtime)
    role = ROLES[chosen.split]
    if role == "test" and role not in splits.data.roles:
        raise UserError(f"data '{splits.data.spec}' has no labelled test images; give --split train to cluster the images that there are")
    used = splits.used({role: splits.name(role)})
    images = used.images[role]
    clusters = _numbers_of_clusters(chosen, images)
    measured = measurement(TASK, model, used, chosen, image_size, runtime)
    with measured.timed("features"):
        features = measured.features(role).features
    with measured.timed("clustering"):
        found = evaluate_clustering(
            features,
            images.levels,
            clusters=clusters,
            seed=runtime.seed,
            iterations=chosen.iterations,
            restarts=chosen.restarts,
            init=chosen.init,
            max_points_per_centroid=chosen.max_points_per_centroid,
            device=runtime.device,
            processes=runtime.processes,
        )
    metrics = _metrics(found, used.level, len(images))
    # The number of clusters of the headline.
    first = len(images.level(used.level).classes) if chosen.k[0] == CLASSES else int(chosen.k[0])
    return measured.result(
        protocol={
            "k": sorted(found),
            "k_from_classes": CLASSES in chosen.k,
            "split": chosen.split,
            "features": "unit length",
            "engine": "torch",
            "iterations": chosen.iterations,
            "restarts": chosen.restarts,
            "init": {f"k{k}": clustering.init for k, clustering in found.items()},
            "max_points_per_centroid": chosen.max_points_per_centroid,
            "nmi": "by the arithmetic mean of the entropies",
            "source": chosen.source,
            "changed": chosen.changed,
        },
        headline=f"ami_k{first}" if f"ami_k{first}" in metrics else f"distance_k{first}",
        metrics=metrics,
        counts={
            "matched": {
                f"{_prefix(level, used.level)}k{k}": scores.matched
                for k, clustering in found.items()
                for level, scores in clustering.scores.items()
                if scores.matched is not None
            },
            "empty_clusters": {f"k{k}": clustering.empty for k, clustering in found.items()},
        },
        details={"feature_width": features.shape[1], "montage": _montage(found[first], first, chosen.split)},
    )


def _numbers_of_clusters(preset: ClusterPreset, images: Images) -> list[int]:
    numbers: list[int] = []
    for k in preset.k:
        if k != CLASSES:
            numbers.append(int(k))
        elif images.levels:
            numbers += [len(level.classes) for level in images.levels.values()]
        else:
            raise UserError(
                f"the images of {images.name} ({images.split}) have no labels to take the number of clusters from; give --clusters K, and "
                "the clusters' mean distance is reported"
            )
    return numbers


def _prefix(level: str, own: str) -> str:
    return "" if level == own else f"{level}/"


def _metrics(found: dict[int, Clustering], own: str, images: int) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for k, clustering in found.items():
        for level, scores in clustering.scores.items():
            prefix = _prefix(level, own)
            metrics |= {f"{prefix}{measure}_k{k}": 100 * getattr(scores, measure) for measure in MEASURES}
            if scores.accuracy is not None:
                metrics[f"{prefix}accuracy_k{k}"] = 100 * scores.accuracy
        metrics[f"distance_k{k}"] = clustering.objective / images
    return metrics


def _montage(clustering: Clustering, k: int, split: str) -> dict[str, Any]:
    """Images of the largest clusters, for pictures."""
    sizes = np.bincount(clustering.assignment, minlength=k)
    largest = np.argsort(-sizes, kind="stable")[:SHOWN_CLUSTERS]
    shown = []
    for cluster in largest[sizes[largest] > 0]:
        members = np.flatnonzero(clustering.assignment == cluster)
        nearest = members[np.argsort(clustering.squared_distance[members], kind="stable")[:SHOWN_IMAGES]]
        shown.append({"cluster": int(cluster), "size": int(sizes[cluster]), "images": nearest.tolist()})
    return {"split": split, "k": k, "clusters": shown}
