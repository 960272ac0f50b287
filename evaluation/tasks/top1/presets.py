"""The accuracy of a network's own classifier, as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import Task

if TYPE_CHECKING:
    from zoo.results import Result

@dataclass(frozen=True, kw_only=True)
class OwnPreset(Preset):
    """Images as the model itself says that they are tested."""

    def side(self, data_side: int | None, wanted: int | None) -> int | None:
        return wanted

    def name_at(self, crop: int) -> str:
        return self.name


TOP1_PRESETS: Mapping[str, Preset] = {
    "imagenet": Preset(
        name="imagenet",
        images=ImageChoices(resize=256, crop=224, interpolation="bilinear"),
        source="Krizhevsky et al., NeurIPS 2012, one centre crop; the examples of pytorch/vision",
    ),
    "own": OwnPreset(
        name="own",
        # Of no use: the model says what it takes.
        images=ImageChoices(resize=256, crop=224, interpolation="bilinear"),
        source="the model's own test transform: size, crop_pct and interpolation of its config.json, of timm's or torchvision's settings",
    ),
}


def _change(preset: Preset) -> Preset:
    return preset


def _columns(result: Result) -> dict[str, str]:
    return {metric: heading for metric, heading in {"top1": "top-1", "top5": "top-5"}.items() if metric in result.metrics}


TASK = Task(
    name="top1",
    summary="the network's own classifier: the largest of its outputs, of which there is one for each class of the data, in their order",
    presets=TOP1_PRESETS,
    default_preset="imagenet",
    options=(),
    change=_change,
    run="evaluation.tasks.top1.run:run_top1",
    columns=_columns,
    in_all=False,
    classifier=True,
)
