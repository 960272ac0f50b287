"""Quality without labels: what is measured with how many images and views. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evaluation.tasks.cluster.presets import SPLIT, Split
from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import LAZY_SPLITS, Option, Task, check_options
from zoo.errors import UserError
from zoo.ranges import Range

if TYPE_CHECKING:
    from zoo.results import Result

# How many images and views LiDAR's authors take (section 4.1: 1,000 images; 50 views, and 10 lose little).
_IMAGES_OF_VIEWS, _VIEWS = 1000, 10
# RankMe's authors: more images change it no more (arXiv 2210.02885, section 4.1).
_IMAGES = 25_600


@dataclass(frozen=True, kw_only=True)
class QualityPreset(Preset):
    """How quality without labels is measured.

    Attributes
    ----------
    split
        Whose images: ``"train"``, or ``"val"``, the test images.
    count
        Images, at most, of the numbers that need one feature for each.
    viewed, views
        Images, at most, and views of each, of the numbers that need several.
    """

    split: Split = "train"
    count: int = _IMAGES
    viewed: int = _IMAGES_OF_VIEWS
    views: int = _VIEWS

    def change(self, split: str | None = None, max_images: int | None = None, view_count: int | None = None) -> QualityPreset:
        """The preset with other values; those that are None stay. Raises UserError for values without meaning."""
        check_options(TASK.options, {"max_images": max_images, "view_count": view_count})
        if split not in (None, "train", "val"):
            raise UserError(f"--split is train, or val for the test images, not '{split}'")
        changed = replace(self, split="val" if split == "val" else "train" if split == "train" else self.split)
        if max_images is not None:
            changed = replace(changed, count=max_images, viewed=min(max_images, changed.viewed))
        return replace(changed, views=view_count or changed.views)

    @property
    def changed(self) -> list[str]:
        """Names of the values that differ from those of the registered preset."""
        registered = QUALITY_PRESETS[self.name]
        return [name for name in ("split", "count", "viewed", "views") if getattr(self, name) != getattr(registered, name)]


QUALITY_PRESETS: Mapping[str, QualityPreset] = {
    "usual": QualityPreset(
        name="usual",
        images=ImageChoices(resize=256, crop=224, interpolation="bicubic"),
        source="of this toolkit; the numbers of images are those of RankMe's and LiDAR's authors, the views MoCo v2's",
    )
}
_HEADINGS = {
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "alpha": "alpha-ReQ",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "spread": "spread",
    "neighbour": "same neighbour %",
}


def _columns(result: Result) -> dict[str, str]:
    return {name: heading for name, heading in _HEADINGS.items() if name in result.metrics}


TASK = Task(
    name="quality",
    summary="what features are worth without labels: RankMe, LiDAR, alpha-ReQ, alignment, uniformity, spread, neighbours of views",
    presets=QUALITY_PRESETS,
    default_preset="usual",
    options=(
        SPLIT,
        Option("max_images", int, "Images at most, not the preset's.", "N", within=Range(3)),
        Option("view_count", int, "Views of an image, not the preset's.", "Q", within=Range(2, 100)),
    ),
    change=QualityPreset.change,
    run="evaluation.tasks.quality.run:run_quality",
    columns=_columns,
    prepare=LAZY_SPLITS,
    in_all=False,
    note="no accuracies: RankMe and LiDAR are effective ranks; alignment and uniformity lower is better; docs/quality.md",
)
