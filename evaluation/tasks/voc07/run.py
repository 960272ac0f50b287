"""PASCAL VOC 2007 classification of a model, as a task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from evaluation.extraction.image_bar import image_bar
from evaluation.extraction.splits import LazySplits, UsedSplits, lazy_splits
from evaluation.tasks.presets import find
from evaluation.tasks.runtime import Runtime, make_result, transform_for
from evaluation.tasks.voc07.precision import labels_of, mean_precision_intervals, precision_table
from evaluation.tasks.voc07.presets import TASK, VOC07_PRESETS, ProbePreset, SvmPreset, VocPreset, changed_of
from evaluation.tasks.voc07.probe import run_probe
from evaluation.tasks.voc07.svm import Draw, SvmSettings, evaluate_low_shot, evaluate_svm, own_negatives, shared_images
from zoo.data.base import Data, MultiLabel
from zoo.data.sets.voc07 import TEST, TRAIN, VAL
from zoo.errors import UserError
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model

_DRAWS: dict[str, Draw] = {"own negatives": own_negatives, "shared images": shared_images}


def run_voc07(
    model: Model,
    data: Data | LazySplits,
    *,
    preset: str | VocPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Classify images that may show several classes, VOC 2007's or one's own, by a model's features.

    Metrics are in percent: ``map_area`` and ``map_11point`` are means over the classes, by the two forms of average precision
    (:func:`evaluation.tasks.voc07.precision.average_precision`); ``low_shot_k4_mean`` and ``..._std`` over the draws of 4 images of each
    class, by area, with ``_best_c_on_test`` in the name where the best of several C is reported, as VISSL does; ``per_image_ap`` is what
    HCSC's script calls mAP (:func:`evaluation.tasks.voc07.precision.per_image_precision`).

    Parameters
    ----------
    model, image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`.
    data
        ``voc07:ROOT``, or another set of such images, as :func:`zoo.data.open_data` gives it, or prepared by
        :func:`evaluation.extraction.splits.lazy_splits`.
    preset
        A name in :data:`evaluation.tasks.voc07.presets.VOC07_PRESETS`, or such a preset with changes
        (:func:`evaluation.tasks.voc07.presets.change`).

    Raises
    ------
    UserError
        Images of one class each, or a missing split; classes with too few images; what extraction and training refuse.
    """
    if isinstance(preset, str):
        preset = find("preset", preset, VOC07_PRESETS)
    runtime = Runtime() if runtime is None else runtime
    if isinstance(data, Data):
        data = lazy_splits(data, processes=runtime.processes, progress=runtime.progress)
    if data.data.role("train").multilabel is None:
        raise UserError(
            f"task voc07 is for images that may show several classes, not for '{data.data.spec}': those of PASCAL VOC 2007 "
            "(--data voc07:ROOT), or of a table with several labels in a cell (csv:FILE,...)"
        )
    if isinstance(preset, ProbePreset):
        return run_probe(model, data.used({"test": TEST, "train": TRAIN, "val": VAL}), preset, image_size, runtime)
    test = data.data.role("test")
    if test.multilabel is None:
        raise UserError(f"the test images of '{data.data.spec}' have no labels")
    return _run_svm(model, data.used({"test": data.name("test"), "train": data.name("train")}), preset, image_size, runtime)


def _run_svm(model: Model, used: UsedSplits, preset: SvmPreset, image_size: int | None, runtime: Runtime) -> Result:
    transform = transform_for(model, used, preset.images.fitting(used.data.image_size, image_size))
    train, test = used.images["train"], used.images["test"]
    started = time.perf_counter()
    train_features, test_features = (
        runtime.features(model, images, transform, fingerprint=used.facts.splits[role].fingerprint).features.numpy()
        for role, images in (("train", train), ("test", test))
    )
    extracted = time.perf_counter()
    settings = SvmSettings(preset.costs, preset.folds, preset.positive_weight, preset.iterations, preset.hard_are_negative)
    arrays = (train_features, labels_of(train), test_features, labels_of(test), settings)
    with _classes_bar("all images", labels_of(test), runtime) as done:
        scores = evaluate_svm(*arrays, seed=runtime.seed, processes=runtime.processes, done=done)
    metrics = {"map_area": scores.map_area, "map_11point": scores.map_11point}
    low_shot: dict[str, Any] = {}
    for shots in preset.shots:
        with _classes_bar(f"{shots} of each class", labels_of(test), runtime) as done:
            few = evaluate_low_shot(
                *arrays,
                shots=shots,
                draw=_DRAWS[preset.draw],
                draws=preset.draws,
                seed=runtime.seed,
                processes=runtime.processes,
                done=done,
            )
        suffix = "_best_c_on_test" if len(preset.costs) > 1 else ""
        metrics[f"low_shot_k{shots}_mean{suffix}"] = float(few.area[:, few.best].mean())
        metrics[f"low_shot_k{shots}_std{suffix}"] = float(few.area[:, few.best].std())
        low_shot[f"k{shots}"] = {
            "best_cost": few.costs[few.best],
            "area": few.area.tolist(),
            "eleven_point": few.eleven_point.tolist(),
        }
    finished = time.perf_counter()
    return make_result(
        model,
        used,
        runtime,
        transform,
        task="voc07",
        preset=preset.name_at(transform.crop),
        protocol={
            "classifier": "LinearSVC, squared hinge, L2, dual",
            "features": "unit length",
            "costs": list(preset.costs),
            "folds": preset.folds if len(preset.costs) > 1 else None,
            "class_weight": {"1": preset.positive_weight, "-1": 1.0},
            "iterations": preset.iterations,
            "difficult": f"negative in training, {'negative' if preset.hard_are_negative else 'left out'} in the test",
            "shots": list(preset.shots),
            "draw": preset.draw,
            "draws": preset.draws,
            "source": preset.source,
            "changed": changed_of(preset),
        },
        headline="map_area",
        metrics=metrics,
        counts={"unconverged_machines": scores.unconverged},
        details={
            "feature_width": train_features.shape[1],
            "per_class": precision_table(used, scores.area, scores.eleven_point, costs=list(scores.costs)),
            "low_shot": low_shot,
            "intervals": mean_precision_intervals(
                labels_of(test).values, scores.decisions, hard_are_negative=preset.hard_are_negative, seed=runtime.seed
            ),
        },
        seconds={"features": extracted - started, "machines": finished - extracted},
    )


def _classes_bar(label: str, labels: MultiLabel, runtime: Runtime) -> Any:
    """A progress bar over this process's classes, on the main process."""
    share = runtime.processes.share(len(labels.classes), 1)
    return image_bar(label, share.stop - share.start, show=runtime.progress and runtime.processes.is_main)
