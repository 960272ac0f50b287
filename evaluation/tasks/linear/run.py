"""Linear classification of a model's features on a data set."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.extraction.checks import check_classes
from evaluation.extraction.features import Features
from evaluation.extraction.labelled import LabelledData
from evaluation.extraction.subsets import hold_out_doubts, split_off
from evaluation.statistics.accuracy import per_class, right_answers
from evaluation.tasks.linear.exact import CropFeatures
from evaluation.tasks.linear.presets import TASK, LinearPreset
from evaluation.tasks.linear.sweep import Answers, sweep_logistic
from evaluation.tasks.linear.training import HeldOut, LinearTraining, diverged_doubts, train_heads, train_linear
from evaluation.tasks.measurement import Measurement, made_ready, measurement
from evaluation.tasks.runtime import Runtime
from zoo.data.base import Data
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model


def run_linear(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | LinearPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Linear classification of frozen features by a preset: trained on the train split, counted on the test split.

    Parameters
    ----------
    model, data, image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`. The runtime's seed is that of what is trained.
    preset
        A name in :data:`evaluation.tasks.linear.presets.LINEAR_PRESETS`, or such a preset with changes.

    Raises
    ------
    UserError
        Whatever :func:`labelled_data`, :func:`extract_features` and :func:`train_linear` refuse.
    """
    labelled, chosen, runtime = made_ready(TASK, data, preset, runtime)
    measured = measurement(TASK, model, labelled, chosen, image_size, runtime)
    with measured.timed("features"):
        test = measured.features("test")
    labels, truth = (images.level(labelled.level).labels for images in (labelled.train, labelled.test))
    train_on = _on_crops if chosen.mode == "exact" and chosen.solver != "lbfgs" else _on_features
    answers = train_on(measured, labels, test, truth)
    if answers.layer is not None:
        measured.keep(*answers.layer)

    total = len(labelled.test)
    correct = right_answers({f"_{name}": found for name, found in answers.by_name.items()}) | answers.counts
    return measured.result(
        protocol={**chosen.describe(), **answers.protocol},
        headline=f"top1_{chosen.headline}",
        metrics={name: 100 * count / total for name, count in correct.items()},
        counts={"correct": correct, "clamped": answers.clamped},
        answers=answers.by_name[chosen.headline],
        correct={f"top1_{name}": found.predictions == truth for name, found in answers.by_name.items()},
        details={
            "feature_width": test.features.shape[1],
            **answers.details,
            "per_class": per_class(labelled.classes, {f"top1_{name}": found for name, found in answers.by_name.items()}),
        },
    )


def _on_crops(
    measured: Measurement[LinearPreset, LabelledData], labels: NDArray[np.int64], test: Features, truth: NDArray[np.int64]
) -> Answers:
    """Of classifiers trained on features of random crops."""
    model, data, preset, runtime = measured.model, measured.data, measured.preset, measured.runtime
    with measured.timed("features"):
        check_classes(torch.from_numpy(labels), torch.from_numpy(truth), len(data.classes))
        held_out = split_off(labels, preset.holdout, runtime.seed)[1]
        held_out_features = test.features[:0]
        if len(held_out):
            held_out_features = runtime.features(model, data.train.subset(held_out), measured.transform).features
    with measured.timed("training"), closing(CropFeatures(model, data.train, measured.transform, preset, runtime)) as source:
        images = HeldOut(torch.from_numpy(labels), torch.from_numpy(held_out), held_out_features, test.features, torch.from_numpy(truth))
        training = train_heads(
            source,
            images,
            preset=preset,
            classes=len(data.classes),
            seed=runtime.seed,
            device=runtime.device,
            progress=runtime.shows_progress,
        )
        return _trained(preset, training, source.batch, len(data.classes))


def _on_features(
    measured: Measurement[LinearPreset, LabelledData], labels: NDArray[np.int64], test: Features, truth: NDArray[np.int64]
) -> Answers:
    """Of classifiers trained on features that are computed once."""
    preset, runtime, classes = measured.preset, measured.runtime, len(measured.data.classes)
    with measured.timed("features"):
        train = measured.features("train")
    with measured.timed("training"):
        if preset.solver == "lbfgs":
            return sweep_logistic(preset, train, labels, test, truth, classes, runtime)
        training = train_linear(
            train.features,
            labels,
            test.features,
            truth,
            preset=preset,
            num_classes=classes,
            seed=runtime.seed,
            device=runtime.device,
            progress=runtime.shows_progress,
        )
        return _trained(preset, training, min(preset.batch, len(labels)), classes)


def _trained(preset: LinearPreset, training: LinearTraining, batch: int, classes: int) -> Answers:
    answers = {"last": training.last} | ({} if training.chosen is None else {"selected": training.chosen})
    best_epoch, best_rate = training.best_on_test
    choice: dict[str, Any] = {
        "last": {"lr": training.rates[training.last_rate], "epoch": preset.epochs - 1},
        "best_on_test": {"lr": training.rates[best_rate], "epoch": best_epoch},
    }
    curves: dict[str, Any] = {
        "lr": list(training.rates),
        "loss": [[round(float(loss), 6) if np.isfinite(loss) else None for loss in row] for row in training.losses],
        "test_correct": training.test_correct.tolist(),
    }
    if training.selected is not None and training.holdout_correct is not None:
        epoch, rate = training.selected
        choice["selected"] = {"lr": training.rates[rate], "epoch": epoch, "held_out_correct": int(training.holdout_correct[epoch, rate])}
        curves["held_out_correct"] = training.holdout_correct.tolist()
    doubts = diverged_doubts(training, classes)
    if training.holdout_correct is not None:
        doubts += hold_out_doubts(training.held_out, classes)
    return Answers(
        by_name=answers,
        counts={"top1_best_on_test": int(training.test_correct[best_epoch, best_rate])},
        clamped={} if batch == preset.batch else {"batch": batch},
        details={"chosen": choice, "held_out": training.held_out, "curves": curves, **({"warnings": doubts} if doubts else {})},
        layer=training.layers[preset.headline],
    )
