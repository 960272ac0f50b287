"""A training on noise images, in one and in several processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.training.classifier import Classifier
from evaluation.training.optimizers import OptimizerSettings, ParameterGroup, ScheduleName, ScheduleSettings, ScheduleUnit
from evaluation.training.supervised import Course, History, Place, train_supervised
from zoo.randomness import generator

IMAGES, BATCH, CLASSES = 24, 8, 3


class Backbone(nn.Module):
    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm: nn.Module = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.drop = nn.Dropout(0.3 if norm else 0.0)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.drop(torch.relu(self.norm(self.conv(images)))).mean((2, 3))
        return result


class Source:
    """Noise images in another order each epoch."""

    def __init__(self, rank: int = 0, processes: int = 1) -> None:
        self.images = torch.randn(IMAGES, 3, 6, 6, generator=torch.Generator().manual_seed(1))
        self.share = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes)
        self.steps_per_epoch = IMAGES // BATCH

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = generator(0, "test", epoch=epoch).permutation(IMAGES).reshape(-1, BATCH)
        for rows in order[first_step:, self.share]:
            yield self.images[torch.from_numpy(rows)], torch.from_numpy(rows)


TARGETS = torch.arange(IMAGES) % CLASSES


def network(norm: bool = True, how: str = "trained") -> Classifier:
    torch.manual_seed(5)
    return Classifier(Backbone(norm), 5, CLASSES, how=how, head_std=0.01)  # type: ignore[arg-type]


def groups(model: Classifier) -> list[ParameterGroup]:
    return [ParameterGroup(list(model.backbone.parameters()), peak_lr=0.02), ParameterGroup(list(model.head.parameters()), peak_lr=0.5)]


def course(epochs: int = 3, reduction: str = "mean") -> Course:
    settings = ScheduleSettings(name=ScheduleName.step, milestones=[1, 2], gamma=0.2, unit=ScheduleUnit.epoch)
    return Course(epochs, OptimizerSettings(lr=1.0, weight_decay=1e-3), settings, seed=3, reduction=reduction)  # type: ignore[arg-type]


def measure(model: nn.Module) -> dict[str, float]:
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        outputs = model(Source().images)
    return {"correct": float((outputs.argmax(1) == TARGETS).sum()), "loss": float(functional.cross_entropy(outputs, TARGETS))}


def train(model: Classifier, place: Place | None = None, **more: object) -> History:
    place = Place(device="cpu") if place is None else place
    return train_supervised(model, Source(), TARGETS, course(), groups(model), measure=measure, place=place, **more)  # type: ignore[arg-type]
