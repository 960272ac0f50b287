"""Fine-tuning a backbone with a linear layer on top."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.extraction.features import extract_features
from evaluation.statistics.accuracy import Accuracy, count_correct
from evaluation.tasks.finetune.presets import FineTunePreset, Rates
from evaluation.tasks.runtime import DTYPES, Runtime
from evaluation.training.augmented import AugmentedImages, augmentation, fitting_batch
from evaluation.training.classifier import Classifier, feature_width, freeze_unused
from evaluation.training.devices import Precision
from evaluation.training.optimizers import (
    OptimizerSettings,
    ParameterGroup,
    ScheduleName,
    ScheduleSettings,
    ScheduleUnit,
)
from evaluation.training.seeding import seeded
from evaluation.training.supervised import Course, History, Place, train_supervised
from zoo.cores import available_cores
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.models.transforms import EvalTransform

TEST, HELD_OUT = "test", "held_out"


@dataclass(frozen=True)
class Labelled:
    """Images and their labels at one level.

    Attributes
    ----------
    images
        N of them.
    labels
        int64 array (N,).
    positions
        int64 array (N,): where the images are in the split that they are part of.
    """

    images: Images
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A network after its fine-tuning.

    Attributes
    ----------
    network
        Images -> outputs (B, C), in eval mode, with the weights of the selected epoch, or of the last one where nothing is held out.
    final
        Its answers on the test images.
    history
        After each epoch: ``test_correct``, ``test_correct5`` (for more than five classes), and the same of ``held_out``.
    rates, batch
        What it was trained with.
    test_images, held_out_images
        How many there are.
    """

    network: nn.Module
    final: Accuracy
    history: History
    rates: Rates
    batch: int
    test_images: int
    held_out_images: int

    @property
    def selected(self) -> int | None:
        """The epoch (from 0) with the most right answers on the held-out images, the first of equals; None where none are held out."""
        return self.history.best(f"{HELD_OUT}_correct") if self.held_out_images else None

    def numbers(self) -> tuple[dict[str, float], dict[str, int]]:
        """Metrics in percent, and right answers, on the test images: of the selected epoch, the last, and the best *on these images*."""
        epochs = {"last": len(self.history.epochs) - 1, "best_on_test": self.history.best(f"{TEST}_correct")}
        if self.selected is not None:
            epochs = {"selected": self.selected, **epochs}
        counts: dict[str, int] = {}
        for name, epoch in epochs.items():
            found = self.history.epochs[epoch]
            counts[f"top1_{name}"] = int(found[f"{TEST}_correct"])
            if f"{TEST}_correct5" in found:
                counts[f"top5_{name}"] = int(found[f"{TEST}_correct5"])
        return {name: 100 * count / self.test_images for name, count in counts.items()}, counts


def fine_tune(
    backbone: nn.Module,
    train: Labelled,
    test: Labelled,
    classes: int,
    *,
    preset: FineTunePreset,
    rates: Rates,
    transform: EvalTransform,
    held_out: Labelled | None = None,
    runtime: Runtime | None = None,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
) -> FineTuned:
    """Train a copy of ``backbone`` and a linear layer on top of it, and count right answers after each epoch.

    Parameters
    ----------
    backbone
        float32 images (B, 3, S, S), normalised, -> features (B, D). It is left as it is.
    train, test, held_out
        Images to train on, to test on, and to choose the epoch by.
    classes
        Number of classes C.
    preset, rates
        The protocol, and its learning rates.
    transform
        How images are tested; its crop is the side of training crops too, and its mean and deviation are theirs.
    runtime
        Device, processes, seed and the like. The seed is that of the layer's first weights, and of the crops and their order.
    folder, identity
        For checkpoints, as in :func:`evaluation.training.supervised.train_supervised`.

    Raises
    ------
    UserError
        Fewer training images than there are processes, a network without weights, and what training and extraction refuse.
    """
    runtime = Runtime() if runtime is None else runtime
    if next(backbone.parameters(), None) is None:
        raise UserError("a model without weights, such as 'pixels', cannot be fine-tuned; use task linear or the preset 'frozen' of semi")
    processes = runtime.processes
    batch = fitting_batch(preset.batch, len(train.images), processes.count)
    if batch < 2 * processes.count:
        raise UserError(f"{len(train.images)} labelled images are too few for {processes.count} processes; give more labels")
    with seeded(runtime.seed):
        copied = _trainable(backbone, transform.crop)
        network = Classifier(copied, feature_width(copied, transform.crop), classes, how=preset.how, head_std=preset.head_std)
    source = AugmentedImages(
        train.images,
        augmentation(transform.crop, preset.scale, preset.ratio, interpolation=transform.interpolation, strong=preset.strong),
        mean=transform.mean,
        std=transform.std,
        seed=runtime.seed,
        batch=batch,
        rank=processes.rank,
        processes=processes.count,
        device=runtime.device,
        workers=loader_workers(train.images, runtime),
        channels=transform.channels,
    )
    untouched = tensors_sha256(network.backbone.state_dict()) if preset.how == "frozen" else None

    def measure(trained: nn.Module) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for name, split in ((TEST, test), (HELD_OUT, held_out)):
            if split is not None:
                found = accuracy_of(trained, split, transform, runtime)
                numbers[f"{name}_correct"] = found.correct
                if found.correct5 is not None:
                    numbers[f"{name}_correct5"] = found.correct5
        return numbers

    history = train_supervised(
        network,
        source,
        torch.from_numpy(train.labels),
        _course(preset, runtime.seed),
        [
            ParameterGroup(list(network.backbone.parameters()), peak_lr=rates.trunk),
            ParameterGroup(list(network.head.parameters()), peak_lr=rates.head),
        ],
        measure=measure,
        keep_by=None if held_out is None else f"{HELD_OUT}_correct",
        place=place_of(runtime, folder),
        identity=identity,
    )
    if untouched is not None and tensors_sha256(network.backbone.state_dict()) != untouched:
        raise RuntimeError("the frozen backbone is not what it was before the training")
    if history.kept is not None:
        network.load_state_dict(history.kept)
    final = accuracy_of(network, test, transform, runtime)
    held = 0 if held_out is None else len(held_out.images)
    return FineTuned(network, final, history, rates, batch, len(test.images), held)


def outputs_of(network: nn.Module, images: Images, transform: EvalTransform, runtime: Runtime) -> Tensor:
    """float32 outputs (N, C) of all images, in every process: exact for any number of them."""
    return extract_features(
        network,
        images,
        transform,
        batch_size=runtime.batch_size,
        device=runtime.device,
        autocast=DTYPES[runtime.dtype],
        workers=runtime.workers,
        processes=runtime.processes,
        progress=False,
    ).features


def accuracy_of(network: nn.Module, split: Labelled, transform: EvalTransform, runtime: Runtime) -> Accuracy:
    """Right answers of a network on a split."""
    return count_correct(outputs_of(network, split.images, transform, runtime), split.labels)


def place_of(runtime: Runtime, folder: Path | None) -> Place:
    """Where a training runs. Raises UserError for a precision that training does not have."""
    precisions: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16"}
    if runtime.dtype not in precisions:
        raise UserError(f"networks are trained in {' or '.join(precisions)}, not in {runtime.dtype}")
    return Place(
        device="cuda" if runtime.device.type == "cuda" else "cpu",
        precision=precisions[runtime.dtype],
        folder=folder,
        show=runtime.progress,
    )


def _trainable(backbone: nn.Module, side: int) -> nn.Module:
    copied = copy.deepcopy(backbone).requires_grad_(True)
    freeze_unused(copied, side)
    return copied


def _course(preset: FineTunePreset, seed: int) -> Course:
    return Course(
        epochs=preset.epochs,
        optimizer=OptimizerSettings(lr=1.0, momentum=preset.momentum, weight_decay=preset.weight_decay),
        schedule=ScheduleSettings(
            name=ScheduleName(preset.schedule),
            milestones=list(preset.milestones),
            gamma=preset.gamma,
            period=preset.period,
            unit=ScheduleUnit.step if preset.schedule == "restarts" else ScheduleUnit.epoch,
        ),
        seed=seed,
    )


def loader_workers(images: Images, runtime: Runtime) -> int:
    """Loader processes: none for images in memory."""
    if images.pixels is not None:
        return 0
    return max(1, available_cores() // runtime.processes.count) if runtime.workers is None else runtime.workers
