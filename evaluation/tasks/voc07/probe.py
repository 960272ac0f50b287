"""HCSC's evaluation on VOC 2007: a linear layer on a backbone whose weights are frozen and whose batch norms are not."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision.transforms import functional as image_functional

from evaluation.extraction.splits import UsedSplits
from evaluation.loading import ClosableLoader
from evaluation.tasks.finetune.training import place_of
from evaluation.tasks.measurement import Measurement
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.voc07.precision import average_precision, labels_of, mean_precision_intervals, per_image_precision, precision_table
from evaluation.tasks.voc07.presets import ProbePreset, changed_of
from evaluation.training.classifier import Classifier, feature_width
from evaluation.training.optimizers import OptimizerSettings, ParameterGroup, ScheduleName, ScheduleSettings, ScheduleUnit
from evaluation.training.seeding import seeded
from evaluation.training.supervised import Course, History, train_supervised
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform
from zoo.randomness import generator, uniforms
from zoo.results import Result

Corner = Literal["top left", "top right", "bottom left", "bottom right"]
CORNERS: tuple[Corner, ...] = ("top left", "top right", "bottom left", "bottom right")
_PURPOSE = "voc07 probe"
_PER_IMAGE = "per_image_ap"


@dataclass(frozen=True)
class CornerCrop(EvalTransform):
    """An evaluation transform whose crop lies in a corner of the resized image."""

    corner: Corner = "top left"

    def crop_pil(self, image: Image.Image) -> NDArray[np.uint8]:
        """uint8 (crop, crop, 3)."""
        scale = self.resize / min(image.size)
        width, height = (max(self.resize, int(side * scale)) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        left = 0 if "left" in self.corner else width - self.crop
        top = 0 if "top" in self.corner else height - self.crop
        return np.array(resized.crop((left, top, left + self.crop, top + self.crop)))


class ProbeImages:
    """HCSC's augmentation of VOC 2007's training images, each choice at the image's own address.

    The image is squeezed to a square; then either its brightness changes or it may become grey; it may be flipped, and it is rotated. The
    last, incomplete batch of an epoch is left out.
    """

    def __init__(self, images: Images, preset: ProbePreset, transform: EvalTransform, runtime: Runtime, batch: int) -> None:
        self._transform, self._seed, self._batch, self._device = transform, runtime.seed, batch, runtime.device
        self._count, self._processes = len(images), runtime.processes
        self._augmented = _Augmented(images, preset, transform.crop, runtime.seed)
        self._workers = runtime.loader_workers(images)
        self.steps_per_epoch = self._count // batch
        self._loader: ClosableLoader[Any] | None = None

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """As :class:`evaluation.training.supervised.LabelledBatches` says."""
        order = generator(self._seed, _PURPOSE, epoch=epoch).permutation(self._count)
        rows = order[: self.steps_per_epoch * self._batch].reshape(self.steps_per_epoch, self._batch)[first_step:]
        share = self._batch // self._processes.count
        mine = rows[:, share * self._processes.rank : share * (self._processes.rank + 1)]
        self.close()
        loader: ClosableLoader[Any] = ClosableLoader(
            self._augmented,
            batch_sampler=[[(epoch, int(index)) for index in row] for row in mine],
            num_workers=min(self._workers, len(mine)),
            collate_fn=_stack,
            generator=torch.Generator(),
        )
        self._loader = loader
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            pixels, index = batch
            yield self._transform.normalise(pixels.to(self._device)), index.to(self._device)

    def close(self) -> None:
        """End the loader's workers."""
        if self._loader is not None:
            self._loader.close()


class _Augmented(Dataset["tuple[NDArray[np.uint8], int] | UserError"]):
    def __init__(self, images: Images, preset: ProbePreset, side: int, seed: int) -> None:
        self.images, self.preset, self.side, self.seed = images, preset, side, seed

    def __getitem__(self, address: tuple[int, int]) -> tuple[NDArray[np.uint8], int] | UserError:
        epoch, index = address
        try:
            image = self.images.read(index)
        except UserError as error:
            return error
        preset = self.preset
        choice, strength, flip, turn = uniforms(self.seed, _PURPOSE, 4, index=[index], epoch=epoch)[0]
        image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        if choice < 0.5:
            image = image_functional.adjust_brightness(image, 1 - preset.brightness + 2 * preset.brightness * strength)
        elif strength < preset.gray:
            image = image_functional.rgb_to_grayscale(image, num_output_channels=3)
        if flip < preset.flip:
            image = image_functional.hflip(image)
        image = image_functional.rotate(image, preset.degrees * (2 * turn - 1))
        return np.array(image), index


def _stack(items: list[tuple[NDArray[np.uint8], int] | UserError]) -> tuple[Tensor, Tensor] | UserError:
    good = []
    for item in items:
        if isinstance(item, UserError):
            return item
        good.append(item)
    return torch.from_numpy(np.stack([pixels for pixels, _ in good])), torch.tensor([index for _, index in good])


def run_probe(measured: Measurement[ProbePreset, UsedSplits]) -> Result:
    """The evaluation as a result: see :func:`evaluation.tasks.voc07.run.run_voc07`."""
    model, used, preset, runtime = measured.model, measured.data, measured.preset, measured.runtime
    if next(model.module.parameters(), None) is None:
        raise UserError(f"'{model.name}' has no batch norm to be live; take voc07 preset vissl or pcl")
    transform = replace(measured.transform, mean=preset.mean, std=preset.std)
    measured = replace(measured, transform=transform)
    truth = {role: labels_of(images).values == 1 for role, images in used.images.items()}
    count = runtime.processes.count
    batch = min(preset.batch, len(used.images["train"])) // count * count
    if batch < 2 * count:
        raise UserError(f"a batch of {preset.batch} gives {count} processes less than two images each; start fewer")
    with seeded(runtime.seed):
        network = Classifier(
            copy.deepcopy(model.module),
            feature_width(model.module, transform.crop),
            truth["train"].shape[1],
            how="frozen, live batch norm",
            head_std=preset.head_std,
        )
    with measured.timed("training"):
        history = _train(network, measured, truth, batch)
        assert history.kept is not None
        network.load_state_dict(history.kept)
        outputs = _five_crops(network, used.images["test"], transform, runtime)
        marks = labels_of(used.images["test"]).values
        eleven_point, area = _per_class(marks, outputs)
    return measured.result(
        protocol={
            **{name: list(value) if isinstance(value, tuple) else value for name, value in _values(preset).items()},
            "classifier": "linear layer, binary cross-entropy summed over images and classes",
            "batch": batch,
            "schedule": "cosine to 0 and back, as the published code makes it",
            "batch_norm_training": "live: statistics of the batch; running ones go on",
            "test_crops": 5,
            "selected_epoch": history.best(_PER_IMAGE) + 1,
            "selected_by": "per_image_ap on val",
            "difficult": "negative in training and for per_image_ap, left out for the means over classes",
            "source": preset.source,
            "changed": changed_of(preset),
        },
        headline=_PER_IMAGE,
        metrics={
            _PER_IMAGE: 100 * per_image_precision(marks == 1, outputs),
            "map_area": float(area.mean()),
            "map_11point": float(eleven_point.mean()),
        },
        details={
            "per_class": precision_table(used, area, eleven_point),
            "intervals": mean_precision_intervals(marks, outputs, seed=runtime.seed),
            "epochs": {"val_per_image_ap": [100 * epoch[_PER_IMAGE] for epoch in history.epochs]},
        },
    )


def _train(
    network: Classifier, measured: Measurement[ProbePreset, UsedSplits], truth: Mapping[str, NDArray[np.bool_]], batch: int
) -> History:
    """Train the layer; ``truth`` says by role which classes, bool (N, C), the images show."""
    preset, runtime, transform, images = measured.preset, measured.runtime, measured.transform, measured.data.images

    def measure(trained: nn.Module) -> dict[str, float]:
        return {_PER_IMAGE: per_image_precision(truth["val"], runtime.outputs(trained, images["val"], transform).numpy())}

    folder = None if preset.checkpoints is None else preset.checkpoints / f"{measured.model.name.replace('/', '-')}.voc07"
    with closing(ProbeImages(images["train"], preset, transform, runtime, batch)) as source:
        return train_supervised(
            network,
            source,
            torch.from_numpy(truth["train"]).float(),
            Course(
                epochs=preset.epochs,
                optimizer=OptimizerSettings(lr=preset.lr, momentum=preset.momentum, weight_decay=0.0),
                schedule=ScheduleSettings(name=ScheduleName.wave, period=preset.period, unit=ScheduleUnit.epoch),
                seed=runtime.seed,
                reduction="sum",
                sync_bn=False,
            ),
            [ParameterGroup(list(network.head.parameters()), peak_lr=preset.lr)],
            loss=functional.binary_cross_entropy_with_logits,
            measure=measure,
            keep_by=_PER_IMAGE,
            place=place_of(runtime, folder),
            identity={
                "task": measured.task,
                "preset": {**_values(preset), "batch": batch},
                "model": measured.model.tensors_sha256,
                "data": {role: split.fingerprint for role, split in measured.data.facts.splits.items()},
                "transform": transform.describe(),
                "seed": runtime.seed,
                "dtype": runtime.dtype,
            },
        )


def _values(preset: ProbePreset) -> dict[str, Any]:
    """What a result records of the preset."""
    return {name: value for name, value in asdict(preset).items() if name not in ("name", "images", "source", "checkpoints")}


def _five_crops(network: nn.Module, images: Images, transform: EvalTransform, runtime: Runtime) -> NDArray[np.float32]:
    """Mean outputs of the four corners and the centre."""
    corners = [CornerCrop(**asdict(transform), corner=corner) for corner in CORNERS]
    total = sum((runtime.outputs(network, images, one) for one in corners), runtime.outputs(network, images, transform))
    return (total / (len(corners) + 1)).numpy()


def _per_class(marks: NDArray[np.int8], outputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average precision of each class in percent, in both forms; "difficult" images are left out."""
    found = []
    for column in range(marks.shape[1]):
        kept = marks[:, column] != 0
        if not (marks[:, column] == 1).any():
            raise UserError(f"no test image shows class number {column}, so it has no average precision")
        found.append(average_precision(marks[kept, column] == 1, outputs[kept, column]))
    table = 100 * np.array(found)
    return table[:, 0], table[:, 1]
