"""How features are written to files, and the task of ``evaluate`` that does it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.tasks.cluster.presets import SPLIT
from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import LAZY_SPLITS, Option, Task, folder_to_write
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.results import Result


@dataclass(frozen=True, kw_only=True)
class FeaturePreset(Preset):
    """Which features are written, and where.

    Attributes
    ----------
    split
        ``"train"``, ``"val"`` (the test images), or another split of the data by its name; None: train and test, or all there is.
    npz
        The folder that gets a file for each split.
    """

    split: str | None = None
    npz: Path | None = None

    def change(self, split: str | None = None, npz: Path | None = None) -> FeaturePreset:
        """The preset with other values. Raises UserError where no folder is given."""
        if npz is None and self.npz is None:
            raise UserError("task features writes files: say into which folder with --npz DIR")
        return replace(self, split=split or self.split, npz=npz or self.npz)


FEATURE_PRESETS: Mapping[str, FeaturePreset] = {
    name: FeaturePreset(
        name=name, images=ImageChoices(resize=256, crop=224, interpolation=name), source=f"short side 256 {name}, centre 224"
    )
    for name in ("bicubic", "bilinear")
}


def _columns(result: Result) -> dict[str, str]:
    return {name: name.replace("_", " ") for name in result.metrics}


TASK = Task(
    name="features",
    summary="features, file names and labels of all levels in .npz files, with where they come from",
    presets=FEATURE_PRESETS,
    default_preset="bicubic",
    options=(Option("npz", Path, "features: folder that gets a file for each model and split.", "DIR", parse=folder_to_write), SPLIT),
    change=FeaturePreset.change,
    run="evaluation.tasks.feature_file.run:run_features",
    columns=_columns,
    prepare=LAZY_SPLITS,
    in_all=False,
    note="what was written",
)
