"""Fine-tuning of a model on a data set, as a task; and what the tasks that fine-tune have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluation.extraction.labelled import LabelledData
from evaluation.extraction.subsets import hold_out_doubts, split_off
from evaluation.statistics.accuracy import per_class
from evaluation.tasks.finetune.presets import LEGACY_RED_STD, TASK, FineTunePreset, Rates
from evaluation.tasks.finetune.training import FineTuned, Labelled, fine_tune
from evaluation.tasks.measurement import Measurement, made_ready, transform_for
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.task import Task
from evaluation.training.classifier import Classifier
from zoo.data.base import Data
from zoo.errors import UserError
from zoo.files import safe_name
from zoo.models.transforms import EvalTransform
from zoo.normalisation import IMAGENET_STD
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model


AnyFineTunePreset = TypeVar("AnyFineTunePreset", bound=FineTunePreset)


@dataclass(kw_only=True)
class TrainingMeasurement(Measurement[AnyFineTunePreset, LabelledData]):
    """The measurement of a task that trains.

    Attributes
    ----------
    train, held_out, test
        Its images; ``held_out`` is None where the preset holds out nothing.
    """

    train: Labelled
    held_out: Labelled | None
    test: Labelled

    def fine_tune(self, rates: Rates, percent: float, train: Labelled | None = None, part: str = "") -> FineTuned:
        """:func:`evaluation.tasks.finetune.training.fine_tune` on these images (or on ``train``), with checkpoints where the preset says
        so.
        """
        train = self.train if train is None else train
        model, preset = self.model, self.preset
        if next(model.module.parameters(), None) is None:
            raise UserError(f"'{model.name}' has no weights to fine-tune; take task linear, or the preset 'frozen' of task semi")
        identity = {
            "task": self.task,
            "preset": {**preset.describe(), "batch": preset.batch},
            "rates": asdict(rates),
            "percent": percent,
            # The digest tells one choice of labelled images from another.
            "train_images": [len(train.images), hashlib.sha256(train.positions.tobytes() + train.labels.tobytes()).hexdigest()[:16]],
            "data": {role: split.fingerprint for role, split in self.data.facts.splits.items()},
            "level": self.data.level,
            "model": model.tensors_sha256,
            "transform": self.transform.describe(),
            "seed": self.runtime.seed,
            "dtype": self.runtime.dtype,
        }
        share = "" if percent == 100 else f".{percent:g}percent"
        name = safe_name(f"{model.name}.{self.data.data.name}.{self.task}.{preset.name}{share}")
        folder = None if preset.checkpoints is None else preset.checkpoints / (name + (f".{part}" if part else ""))
        return fine_tune(
            model.module,
            train,
            self.test,
            len(self.data.classes),
            preset=preset,
            rates=rates,
            transform=self.transform,
            held_out=self.held_out,
            runtime=self.runtime,
            folder=folder,
            identity=identity,
        )

    def keep_network(self, tuned: FineTuned) -> None:
        """Hand over a fine-tuned network (:meth:`keep`)."""
        network = tuned.network
        assert isinstance(network, Classifier)
        self.keep(network.head.weight, network.head.bias, network.backbone)

    def image_counts(self) -> dict[str, int]:
        """How many images are trained on and held out."""
        return {"trained_on": len(self.train.images), "held_out": 0 if self.held_out is None else len(self.held_out.images)}

    def right_images(self, tuned: FineTuned, metrics: Mapping[str, float]) -> dict[str, NDArray[np.bool_]]:
        """Which test images the headline's network answers rightly."""
        return {headline_of(metrics): tuned.final.predictions == self.test.labels}


def training_measurement(
    task: Task[Any],
    model: Model,
    data: LabelledData,
    preset: AnyFineTunePreset,
    chosen: NDArray[np.int64] | None,
    image_size: int | None,
    runtime: Runtime,
) -> TrainingMeasurement[AnyFineTunePreset]:
    """Of a training on the images ``chosen`` (None: all training images), without the held-out ones."""
    transform = training_transform(model, data, preset, image_size)
    labels = data.train.level(data.level).labels
    positions = np.arange(len(labels)) if chosen is None else chosen
    kept, out = split_off(labels[positions], preset.holdout, runtime.seed)
    measured = TrainingMeasurement(
        task=task.name,
        model=model,
        data=data,
        preset=preset,
        runtime=runtime,
        transform=transform,
        train=labelled_part(data, positions[kept]),
        held_out=labelled_part(data, positions[out]) if len(out) else None,
        test=Labelled(data.test, data.test.level(data.level).labels, np.arange(len(data.test))),
    )
    measured.doubt(hold_out_doubts(len(out), len(data.classes)))
    return measured


def labelled_part(data: LabelledData, positions: NDArray[np.int64]) -> Labelled:
    """The training images at these positions."""
    images = data.train if len(positions) == len(data.train) else data.train.subset(positions)
    return Labelled(images, data.train.level(data.level).labels[positions], positions)


def training_transform(model: Model, data: LabelledData, preset: FineTunePreset, image_size: int | None) -> EvalTransform:
    """The evaluation transform, with the red deviation of SwAV's and HCSC's scripts where the preset says so."""
    transform = transform_for(model, data, preset.images, image_size)
    if not preset.legacy_std:
        return transform
    if transform.std != IMAGENET_STD:
        raise UserError(f"--legacy-std changes ImageNet's deviation {IMAGENET_STD}, and this model's is {transform.std}; leave it out")
    return replace(transform, std=(LEGACY_RED_STD, *IMAGENET_STD[1:]))


def run_finetune(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | FineTunePreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Train the whole network with the labels of the train split, and test it on the test split after each epoch.

    Parameters
    ----------
    model
        As :func:`zoo.model_spec.open_model` gives it; it is left as it is.
    data
        As :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.labelled.labelled_data`.
    preset
        A name in :data:`evaluation.tasks.finetune.presets.FINETUNE_PRESETS`, or such a preset with changes
        (:func:`evaluation.tasks.finetune.presets.change_training`).
    image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`.

    Raises
    ------
    UserError
        Whatever :func:`labelled_data` and :func:`evaluation.tasks.finetune.training.fine_tune` refuse.
    """
    return run_training(TASK, model, data, preset, image_size, runtime)


def run_training(
    task: Task[FineTunePreset],
    model: Model,
    data: Data | LabelledData,
    preset: str | FineTunePreset,
    image_size: int | None,
    runtime: Runtime | None,
) -> Result:
    """A task that trains with all labels once."""
    labelled, chosen, runtime = made_ready(task, data, preset, runtime)
    measured = training_measurement(task, model, labelled, chosen, None, image_size, runtime)
    with measured.timed("training"):
        tuned = measured.fine_tune(chosen.rates_for(100.0), 100.0)
    measured.keep_network(tuned)
    metrics, correct = tuned.numbers()
    return measured.result(
        protocol={**training_protocol(chosen, tuned), "changed": chosen.changed_from(task.presets)},
        headline=headline_of(metrics),
        metrics=metrics,
        counts={"correct": correct, **measured.image_counts()},
        details={"epochs": curves(tuned), "per_class": per_class(labelled.classes, {headline_of(metrics): tuned.final})},
        correct=measured.right_images(tuned, metrics),
        answers=tuned.final,
    )


def training_protocol(preset: FineTunePreset, tuned: FineTuned) -> dict[str, Any]:
    """What a result says of a training: the preset's values, and what came of them."""
    return {
        **preset.describe(),
        "batch": tuned.batch,
        "trunk_lr": tuned.rates.trunk,
        "head_lr": tuned.rates.head,
        "batch_norm_training": tuned.history.batch_norm,
        "selected_epoch": None if tuned.selected is None else tuned.selected + 1,
    }


def headline_of(metrics: Mapping[str, float], suffix: str = "") -> str:
    """The selected epoch's accuracy where one was selected, else the last one's; never the best on the test images."""
    selected = f"top1{suffix}_selected"
    return selected if selected in metrics else f"top1{suffix}_last"


def curves(tuned: FineTuned) -> dict[str, list[float]]:
    """Accuracy in percent after each epoch."""
    totals = {"test": tuned.test_images, "held_out": tuned.held_out_images}
    return {
        f"{name}_top1": [100 * epoch[f"{name}_correct"] / total for epoch in tuned.history.epochs]
        for name, total in totals.items()
        if total
    }
