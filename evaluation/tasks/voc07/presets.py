"""Protocols for PASCAL VOC 2007 classification, and the task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evaluation.tasks.finetune.presets import BATCH, CHECKPOINTS, EPOCHS
from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import LAZY_SPLITS, Option, Task, check_options, whole_numbers
from zoo.errors import UserError
from zoo.ranges import Range

if TYPE_CHECKING:
    from zoo.results import Result

_NONE = "none"


@dataclass(frozen=True, kw_only=True)
class SvmPreset(Preset):
    """A support vector machine per class on frozen features of ``trainval``, tested on ``test``.

    Attributes
    ----------
    costs
        The C that are tried; with several, cross-validation on the training images chooses for each class.
    folds, positive_weight, iterations
        As in :class:`evaluation.tasks.voc07.svm.SvmSettings`.
    difficult_are_negative
        Whether test images that show a class only as "difficult" count as not showing it, or are left out for that class.
    shots
        Numbers of images of each class to learn from besides all of them; empty for none.
    draw
        ``"own negatives"``: each class has images of its own (VISSL); ``"shared images"``: all learn from the same (PCL).
    draws
        Independent draws of the images.
    """

    costs: tuple[float, ...]
    folds: int = 3
    positive_weight: float = 2.0
    iterations: int = 2000
    difficult_are_negative: bool = False
    shots: tuple[int, ...]
    draw: Literal["own negatives", "shared images"]
    draws: int = 5


@dataclass(frozen=True, kw_only=True)
class ProbePreset(Preset):
    """HCSC's linear layer: trained with SGD on ``train``, its epoch chosen on ``val``, tested on ``test``; batch norm is live.

    Attributes
    ----------
    lr, momentum, batch, epochs, period
        Of SGD, whose rate goes down to 0 in ``period`` epochs and up again (it was made so by a schedule that was run beyond its end).
    mean, std
        What images are normalised with, whatever the model was trained with.
    brightness, gray, flip, degrees
        Augmentation: either brightness is multiplied by a factor in 1 -+ ``brightness``, or the image becomes grey with probability
        ``gray`` (either is as likely); flips with probability ``flip``; a rotation by at most ``degrees``.
    checkpoints
        Folder to keep checkpoints in; None: none are kept.
    """

    lr: float = 0.05
    momentum: float = 0.9
    batch: int = 16
    epochs: int = 100
    period: int = 12
    head_std: float = 0.01
    mean: tuple[float, float, float] = (0.457342265910642, 0.4387686270106377, 0.4073427106250871)
    std: tuple[float, float, float] = (0.26753769276329037, 0.2638145880487105, 0.2776826934044154)
    brightness: float = 0.2
    gray: float = 0.25
    flip: float = 0.25
    degrees: float = 25.0
    checkpoints: Path | None = None


VocPreset = SvmPreset | ProbePreset


def change(
    preset: VocPreset,
    *,
    shots: Sequence[int] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    checkpoints: Path | None = None,
) -> VocPreset:
    """The preset with other values; those that are None stay. Raises UserError for one that it does not have, or that has no meaning."""
    if isinstance(preset, SvmPreset):
        for name, value in (("epochs", epochs), ("batch", batch), ("checkpoints", checkpoints)):
            if value is not None:
                raise UserError(f"voc07 preset '{preset.name}' has no --{name}: its machines are trained to the end; leave it out")
        if shots is None:
            return preset
        if shots:
            check_options(TASK.options, {"shots": shots})
        return replace(preset, shots=tuple(sorted(shots)))
    if shots is not None:
        raise UserError(f"voc07 preset '{preset.name}' learns from all images; leave --shots out, or take preset vissl or pcl")
    check_options(TASK.options, {"epochs": epochs, "batch": batch})
    return replace(preset, epochs=epochs or preset.epochs, batch=batch or preset.batch, checkpoints=checkpoints or preset.checkpoints)


def changed_of(preset: VocPreset) -> list[str]:
    """Names of the values that differ from those of the registered preset."""
    registered = VOC07_PRESETS[preset.name]
    return [name for name in ("shots", "epochs", "batch") if getattr(preset, name, None) != getattr(registered, name, None)]


def _shots(text: str) -> list[int]:
    return [] if text.strip() == _NONE else whole_numbers("--shots")(text)


_IMAGES = ImageChoices(resize=256, crop=224, interpolation="bilinear")
VOC07_PRESETS: Mapping[str, VocPreset] = {
    "vissl": SvmPreset(
        name="vissl",
        images=_IMAGES,
        costs=(0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0),
        shots=(1, 2, 4, 8, 16, 32, 64, 96),
        draw="own negatives",
        source="Goyal et al., ICCV 2019 (arXiv 1905.01235), vissl/utils/svm_utils of facebookresearch/vissl; on the pooled features",
    ),
    "pcl": SvmPreset(
        name="pcl",
        images=_IMAGES,
        costs=(0.5,),
        difficult_are_negative=True,
        shots=(1, 2, 4, 8, 16),
        draw="shared images",
        source="Li et al., ICLR 2021 (arXiv 2005.04966), eval_svm_voc.py of salesforce/PCL",
    ),
    "hcsc": ProbePreset(
        name="hcsc",
        images=ImageChoices(resize=330, crop=300, interpolation="bilinear"),
        source="Guo et al., CVPR 2022 (arXiv 2202.00455), voc_cls/ of gyfastas/HCSC: its 'mAP' is a mean over images, here per_image_ap",
    ),
}


def _columns(result: Result) -> dict[str, str]:
    columns = {"map_area": "mAP (area)", "map_11point": "mAP (11 points)", "per_image_ap": "AP per image"}
    for name in result.metrics:
        if name.startswith("low_shot_k") and name.endswith(("_mean", "_mean_best_c_on_test")):
            columns[name] = f"k={name.removeprefix('low_shot_k').partition('_')[0]}"
    return {metric: heading for metric, heading in columns.items() if metric in result.metrics}


TASK = Task(
    name="voc07",
    summary="PASCAL VOC 2007 classification, --data voc07:ROOT: support vector machines with all images and a few, or HCSC's linear layer",
    presets=VOC07_PRESETS,
    default_preset="vissl",
    options=(
        Option(
            "shots",
            str,
            f"vissl, pcl: images of each class to learn from besides all of them, or {_NONE}.",
            "N[,N...]",
            _shots,
            Range(1),
        ),
        EPOCHS,
        BATCH,
        CHECKPOINTS,
    ),
    change=change,
    run="evaluation.tasks.voc07.run:run_voc07",
    columns=_columns,
    prepare=LAZY_SPLITS,
    in_all=False,
    note="mean average precision in percent; k: from so many images of each class, at the C that is best on the test images",
)
