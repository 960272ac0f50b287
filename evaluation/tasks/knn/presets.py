"""kNN protocols, and kNN as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import Option, Task, check_options, several, whole_numbers
from zoo.ranges import POSITIVE, Range

if TYPE_CHECKING:
    from zoo.results import Result

Weight = Literal["exp", "softmax", "uniform"]
Similarity = Literal["cosine", "dot"]


@dataclass(frozen=True, kw_only=True)
class KnnPreset(Preset):
    """A kNN protocol: a weighted vote of the k nearest training images.

    Attributes
    ----------
    k
        Numbers of neighbours that are reported.
    headline_k
        The one of the headline.
    temperature
        T of the weight exp(similarity / T) of a neighbour's vote.
    weight
        ``"exp"``; ``"softmax"``, the same divided by the sum over the neighbours of the largest k; ``"uniform"`` for votes of equal weight.
    similarity
        ``"cosine"``, or ``"dot"`` for the inner product of features as they are.
    """

    k: tuple[int, ...]
    headline_k: int
    temperature: float
    weight: Weight
    similarity: Similarity = "cosine"

    def change(self, k: int | Sequence[int] | None = None, temperature: float | None = None) -> KnnPreset:
        """The preset with other values; those that are None stay.

        The headline stays the preset's own k where that is still among them, else it is the largest.

        Raises UserError for a k below 1, one given twice, and a temperature that is not positive.
        """
        k = None if k is None else several(k)
        check_options(TASK.options, {"k": k, "temperature": temperature})
        changed = self
        if k is not None:
            headline = self.headline_k if self.headline_k in k else max(k)
            changed = replace(changed, k=tuple(sorted(k)), headline_k=headline)
        if temperature is not None:
            changed = replace(changed, temperature=temperature)
        return changed

    @property
    def changed(self) -> list[str]:
        """Names of the values that differ from those of the registered preset."""
        registered = KNN_PRESETS[self.name]
        return [name for name in ("k", "temperature", "weight") if getattr(self, name) != getattr(registered, name)]


_DINO = KnnPreset(
    name="dino",
    k=(10, 20, 100, 200),
    headline_k=20,
    temperature=0.07,
    weight="exp",
    images=ImageChoices(resize=256, crop=224, interpolation="bicubic"),
    source="Caron et al., ICCV 2021 (arXiv 2104.14294), eval_knn.py of facebookresearch/dino",
)
_MOCO = KnnPreset(
    name="moco",
    k=(200,),
    headline_k=200,
    temperature=0.1,
    weight="exp",
    images=ImageChoices(resize=256, crop=224, interpolation="bilinear"),
    source="Wu et al., CVPR 2018 (arXiv 1805.01978); the MoCo authors' CIFAR-10 notebook; lightly's ResNet-50 benchmark",
)
_PRESETS = (
    _DINO,
    replace(_DINO, name="hcsc", source="Guo et al., CVPR 2022 (arXiv 2202.00455), eval_knn.py of gyfastas/HCSC, which is DINO's"),
    _MOCO,
    replace(
        _DINO,
        name="dinov2",
        weight="softmax",
        source="Oquab et al., TMLR 2024 (arXiv 2304.07193), dinov2/eval/knn.py of facebookresearch/dinov2",
    ),
    replace(
        _DINO,
        name="mmselfsup",
        images=_MOCO.images,
        source="tools/benchmarks/classification/knn_imagenet of open-mmlab/mmselfsup, which is DINO's with mmcls's resize",
    ),
    replace(_MOCO, name="vissl", similarity="dot", source="tools/nearest_neighbor_test.py of facebookresearch/vissl, L2 normalisation off"),
    replace(_MOCO, name="lightly-vit", temperature=0.07, source="benchmarks/imagenet/vitb16 of lightly-ai/lightly"),
)
KNN_PRESETS: Mapping[str, KnnPreset] = {preset.name: preset for preset in _PRESETS}


def _columns(result: Result) -> dict[str, str]:
    columns = {f"top1_k{k}": f"k={k}" for k in result.protocol["k"]}
    best = result.headline.metric.replace("top1", "top5")
    return columns | ({best: f"top-5 {columns[result.headline.metric]}"} if best in result.metrics else {})


TASK = Task(
    name="knn",
    summary="votes of the nearest training images; nothing is trained",
    presets=KNN_PRESETS,
    default_preset="dino",
    options=(
        Option("k", str, "Numbers of neighbours, not the preset's.", "K[,K...]", whole_numbers("--k"), Range(1)),
        Option("temperature", float, "Temperature, not the preset's.", "T", within=POSITIVE),
    ),
    change=KnnPreset.change,
    run="evaluation.tasks.knn.run:run_knn",
    columns=_columns,
    draw="evaluation.tasks.knn.pictures:draw_result",
    tolerance=0.0,
)
