"""Training images with random crops, flips and colours, for training with labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from evaluation.views import ViewSettings, ViewSource, ViewSpec
from zoo.data.base import Images

# Below so many batches an epoch, what an incomplete last batch would leave out is too large a share of the images.
_FEW_STEPS = 10


class AugmentedImages:
    """One view of each image, batch by batch, every choice at the image's own address (:mod:`zoo.randomness`).

    Parameters
    ----------
    images
        The training images.
    settings
        The augmentation; ``settings.size`` is the side of what the network gets.
    channels
        The order in which they reach the network, ``"rgb"`` or ``"bgr"``; ``mean`` and ``std`` are in this order.
    batch
        Global; rank r of W processes takes the r-th of its W equal parts.
    """

    def __init__(
        self,
        images: Images,
        settings: ViewSettings,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        batch: int,
        rank: int = 0,
        processes: int = 1,
        device: torch.device | str = "cpu",
        workers: int = 0,
        channels: str = "rgb",
    ) -> None:
        self._reversed = channels == "bgr"
        self._source = ViewSource(
            images,
            [ViewSpec("train")],
            settings,
            mean=mean[::-1] if self._reversed else mean,
            std=std[::-1] if self._reversed else std,
            seed=seed,
            batch=batch,
            rank=rank,
            world_size=processes,
            device=device,
            workers=workers,
        )
        self.steps_per_epoch = self._source.steps_per_epoch

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """As :class:`evaluation.training.supervised.LabelledBatches` says."""
        for batch in self._source.batches(epoch, first_step):
            yield batch.views[0].flip(1) if self._reversed else batch.views[0], batch.index

    def close(self) -> None:
        """End the loader's workers; to be called by whoever made this."""
        self._source.close()


def augmentation(
    size: int, scale: Sequence[float], ratio: Sequence[float], *, interpolation: str = "bilinear", strong: bool = False
) -> ViewSettings:
    """Random resized crops and horizontal flips, which linear layers and fine-tuning are trained on; ``strong``: MoCo v2's colours too."""
    settings = ViewSettings(size=size, scale=list(scale), ratio=list(ratio), interpolation=interpolation)
    return settings if strong else replace(settings, jitter=0.0, grayscale=0.0, blur=0.0)


def fitting_batch(batch: int, images: int, processes: int = 1) -> int:
    """The global batch for so many images: ``batch``, or less where it would leave out many of the images that do not fill one.

    With less than ten batches an epoch it is the largest that cuts the images into as many batches as ``batch`` does, the last one
    included. It is a multiple of the number of processes.
    """
    fitting = min(batch, images)
    if images // fitting < _FEW_STEPS:
        fitting = images // -(-images // fitting)
    return fitting // processes * processes
