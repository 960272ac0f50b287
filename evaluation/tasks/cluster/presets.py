"""Clustering protocols, and clustering as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import LAZY_SPLITS, Option, Task, check_options, several, whole_numbers
from zoo.errors import UserError
from zoo.ranges import Range

if TYPE_CHECKING:
    from zoo.results import Result

Split = Literal["train", "val"]
Init = Literal["auto", "k-means++", "greedy"]
# In the place of a number of clusters: as many as each label level has classes.
CLASSES = "classes"
_HEADINGS = {"nmi": "NMI", "ami": "AMI", "ari": "ARI", "fmi": "FMI", "accuracy": "accuracy"}


@dataclass(frozen=True, kw_only=True)
class ClusterPreset(Preset):
    """A clustering protocol: k-means on frozen features of unit length.

    Attributes
    ----------
    split
        Whose images are clustered: ``"train"``, or ``"val"``, the test images.
    k
        Numbers of clusters, of which the headline is for the first; ``"classes"`` for as many as each label level has classes.
    iterations, restarts
        Of k-means, of which the restart with the smallest sum of distances counts.
    init
        First centroids: ``"k-means++"``; ``"greedy"``, of which each is the best of 2 + ln K trials; ``"auto"``: greedy where that takes
        seconds (:data:`evaluation.tasks.cluster.evaluate.GREEDY_WORK`).
    max_points_per_centroid
        With more images than this times k, k-means trains on so many, drawn at random; all are assigned.
    """

    split: Split
    k: tuple[int | str, ...]
    iterations: int = 20
    restarts: int = 5
    init: Init = "auto"
    max_points_per_centroid: int = 1000

    def change(
        self,
        clusters: int | Sequence[int] | None = None,
        split: str | None = None,
        kmeans_iterations: int | None = None,
        kmeans_restarts: int | None = None,
        kmeans_init: str | None = None,
    ) -> ClusterPreset:
        """The preset with other values; those that are None stay. Raises UserError for values without meaning."""
        clusters = None if clusters is None else several(clusters)
        given = {"clusters": clusters, "kmeans_iterations": kmeans_iterations, "kmeans_restarts": kmeans_restarts}
        check_options(TASK.options, given)
        changed = self
        if clusters is not None:
            changed = replace(changed, k=tuple(clusters))
        if split is not None:
            if split not in ("train", "val"):
                raise UserError(f"--split is train, or val for the test images, not '{split}'")
            changed = replace(changed, split="train" if split == "train" else "val")
        if kmeans_init is not None:
            changed = replace(changed, init=_init(kmeans_init))
        return replace(changed, iterations=kmeans_iterations or self.iterations, restarts=kmeans_restarts or self.restarts)

    @property
    def procedure(self) -> int:
        """2: first centroids are greedy where that takes seconds; until then they never were."""
        return 2 if self.init == "auto" else 1

    @property
    def changed(self) -> list[str]:
        """Names of the values that differ from those of the registered preset."""
        registered = CLUSTER_PRESETS[self.name]
        return [name for name in ("k", "split", "iterations", "restarts", "init") if getattr(self, name) != getattr(registered, name)]


def _init(word: str) -> Init:
    for known in get_args(Init):
        if word == known:
            found: Init = known
            return found
    raise UserError(f"--kmeans-init is one of {', '.join(get_args(Init))}, not '{word}'")


SPLIT = Option("split", str, "Which images: train, or val for the test images; for features also another split's name.", "SPLIT")
_IMAGES = ImageChoices(resize=256, crop=224, interpolation="bicubic")
CLUSTER_PRESETS: Mapping[str, ClusterPreset] = {
    "hirl": ClusterPreset(
        name="hirl",
        images=_IMAGES,
        split="val",
        k=(CLASSES,),
        source="eval_common/eval_clustering.py of hirl-team/HIRL, there with 1000 clusters for ImageNet's 1000 classes",
    ),
    "hcsc": ClusterPreset(
        name="hcsc",
        images=_IMAGES,
        split="train",
        k=(25000, 1000),
        source="Guo et al., CVPR 2022 (arXiv 2202.00455): its README names these numbers of clusters and a script that was never "
        "published; features and k-means as in HIRL, the authors' next repository; the train split as in PCL",
    ),
}


def _columns(result: Result) -> dict[str, str]:
    """The measures at the level that the result is for, and AMI of other levels at their own number of classes; or the mean distance."""
    headline = result.headline.metric
    own = [int(headline.rpartition("_k")[2])] if result.protocol["k_from_classes"] else result.protocol["k"]
    columns = {}
    for k in own:
        for measure, heading in _HEADINGS.items():
            if f"{measure}_k{k}" in result.metrics and (len(own) == 1 or measure in ("nmi", "ami", "accuracy")):
                columns[f"{measure}_k{k}"] = heading if len(own) == 1 else f"{heading} k={k}"
    for name in result.metrics:
        level, slash, metric = name.partition("/")
        if slash and metric.startswith("ami_k") and name.replace("/ami_", "/accuracy_") in result.metrics:
            columns[name] = f"{level} AMI"
    return columns or {name: name.replace("_", " ").replace(" k", " k=") for name in result.metrics}


TASK = Task(
    name="cluster",
    summary="k-means on features; how its clusters agree with the labels of every level, or without labels how tight they are",
    presets=CLUSTER_PRESETS,
    default_preset="hirl",
    options=(
        Option("clusters", str, "Numbers of clusters, not the preset's.", "K[,K...]", whole_numbers("--clusters"), Range(1)),
        SPLIT,
        Option("kmeans_iterations", int, "Iterations of k-means, not the preset's.", "N", within=Range(1)),
        Option("kmeans_restarts", int, "Restarts of k-means, not the preset's.", "N", within=Range(1)),
        Option("kmeans_init", str, "First centroids: greedy (each the best of several trials), k-means++, or auto.", "WAY", _init),
    ),
    change=ClusterPreset.change,
    run="evaluation.tasks.cluster.run:run_cluster",
    columns=_columns,
    prepare=LAZY_SPLITS,
    note="agreement with the labels in percent (AMI and ARI: 0 is chance); distance: mean squared distance to the centroid",
)
