"""Quality of a model's features of a data set, without labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from evaluation.extraction.features import eval_mode
from evaluation.extraction.splits import ROLES, LazySplits
from evaluation.statistics.quality import agreement, spectrum
from evaluation.tasks.measurement import made_ready, measurement
from evaluation.tasks.quality.presets import TASK, QualityPreset
from evaluation.tasks.runtime import Runtime
from evaluation.views import ViewSettings, ViewSource, ViewSpec
from zoo.data.base import Data, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model

# Views of small images are not blurred, in MoCo v2's recipes for CIFAR as here.
_BLUR_FROM = 64
_BATCH = 100


def run_quality(
    model: Model,
    data: Data | LazySplits,
    *,
    preset: str | QualityPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """RankMe, alpha-ReQ, uniformity and spread of the features of images; LiDAR, alignment and neighbours of those of their views.

    Metrics: those of :mod:`evaluation.statistics.quality`; ``neighbour`` in percent.

    Parameters
    ----------
    model, image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`. The runtime's seed is that of the views.
    data
        As :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.splits.lazy_splits`. Labels are not needed.
    preset
        A name in :data:`evaluation.tasks.quality.presets.QUALITY_PRESETS`, or such a preset with changes.

    Raises
    ------
    UserError
        No such split, fewer than three images, raw pixels as the model of views; what extraction refuses.
    """
    splits, chosen, runtime = made_ready(TASK, data, preset, runtime)
    role = ROLES[chosen.split]
    used = splits.used({role: splits.name(role)})
    images = used.images[role]
    if len(images) < 3:
        raise UserError(f"quality is measured with at least 3 images, and {images.name} ({images.split}) has {len(images)}")
    measured = measurement(TASK, model, used, chosen, image_size, runtime)
    with measured.timed("features"):
        rows = measured.features(role).features
        # Evenly over the split, which may be sorted by class.
        rows = rows[torch.from_numpy(_evenly(len(rows), chosen.count))]
        one = spectrum(rows)
    # A whole number of batches.
    most = min(len(images), chosen.viewed)
    viewed = images.subset(_evenly(len(images), most - most % min(most, _BATCH)))
    with measured.timed("views"):
        several = agreement(_features_of_views(model, viewed, measured.transform, chosen.views, runtime))
    metrics = {name: value for name, value in (one.to_dict() | several.to_dict()).items() if not math.isnan(value)}
    metrics["neighbour"] *= 100
    return measured.result(
        protocol={
            "split": chosen.split,
            "images": len(rows),
            "viewed_images": len(viewed),
            "views": chosen.views,
            "augmentation": f"MoCo v2's, {'with' if measured.transform.crop >= _BLUR_FROM else 'without'} blur",
            "source": chosen.source,
            "changed": chosen.changed,
        },
        headline="rankme",
        metrics=metrics,
        details={"feature_width": rows.shape[1]},
    )


def _evenly(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of at most ``most`` of ``count`` images, evenly over all."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


def _settings(side: int) -> ViewSettings:
    return ViewSettings(size=side, blur=0.5 if side >= _BLUR_FROM else 0.0)


def _features_of_views(model: Model, images: Images, transform: EvalTransform, views: int, runtime: Runtime) -> Tensor:
    """float32 (N, Q, D) on the CPU: features of Q views of each image, in the order of the images, the same whatever the workers."""
    if model.kind == "pixels":
        raise UserError("raw pixels have no network that could see views; quality is measured of networks")
    # The statistics are in the order of the network's channels; views are made as RGB.
    order = 1 if model.channels == "rgb" else -1
    source = ViewSource(
        images,
        [ViewSpec("first"), ViewSpec("second")],
        _settings(transform.crop),
        mean=transform.mean[::order],
        std=transform.std[::order],
        seed=runtime.seed,
        batch=min(_BATCH, len(images)),
        device=runtime.device,
        workers=runtime.loader_workers(images),
    )
    network = model.module.to(runtime.device)
    found: Tensor | None = None
    try:
        with torch.inference_mode(), eval_mode(network):
            for pair in range(-(-views // 2)):
                for step in source.batches(pair):
                    for number, view in enumerate(step.views):
                        place = 2 * pair + number
                        if place >= views:
                            continue
                        with torch.autocast(runtime.device.type, dtype=runtime.autocast, enabled=runtime.autocast is not None):
                            features = network(view if order == 1 else view.flip(1)).float().cpu()
                        if found is None:
                            found = torch.empty(len(images), views, features.shape[1])
                        found[step.index.cpu(), place] = features
    finally:
        source.close()
    assert found is not None
    return found
