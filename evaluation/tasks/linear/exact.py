"""The exact mode of linear classification: in each epoch new random crops of the training images go through the frozen network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.features import eval_mode, why_not_finite
from evaluation.tasks.linear.presets import LinearPreset
from evaluation.tasks.runtime import Runtime
from evaluation.training.augmented import AugmentedImages, augmentation, fitting_batch
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform

if TYPE_CHECKING:
    from zoo.models.model import Model

# Of a random crop, width over height: torchvision's default, which every published protocol leaves as it is.
ASPECT = (3 / 4, 4 / 3)


class CropFeatures:
    """Batches of features of random crops (:class:`evaluation.tasks.linear.training.FeatureBatches`).

    The processes share each batch's images and put the features together, so that each of them trains the same classifiers. An
    incomplete last batch of a pass is left out.

    Parameters
    ----------
    model
        Its network stays in eval mode, batch norms included, and is not changed.
    images
        The training images.
    transform
        Side, normalisation and channels of the network's input.
    """

    def __init__(self, model: Model, images: Images, transform: EvalTransform, preset: LinearPreset, runtime: Runtime) -> None:
        processes = runtime.processes
        self.batch = fitting_batch(preset.batch, len(images), processes.count)
        if self.batch == 0:
            raise UserError(f"{len(images)} training images are too few for {processes.count} processes; start fewer")
        self._network, self._name, self._runtime = model.module.to(runtime.device), model.name, runtime
        self._images = AugmentedImages(
            images,
            augmentation(transform.crop, preset.crop_scale, ASPECT),
            mean=transform.mean,
            std=transform.std,
            seed=runtime.seed,
            batch=self.batch,
            rank=processes.rank,
            processes=processes.count,
            device=runtime.device,
            workers=runtime.loader_workers(images),
            channels=transform.channels,
        )
        self._endless = preset.steps_per_epoch is not None
        self.steps_per_epoch = preset.steps_per_epoch or self._images.steps_per_epoch

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """float32 (B, D) on the device, and positions int64 (B,) on the CPU; the same in every process."""
        one_pass = self._images.steps_per_epoch
        first = epoch * self.steps_per_epoch if self._endless else epoch * one_pass
        last = first + self.steps_per_epoch
        while first < last:
            number, offset = divmod(first, one_pass)
            for images, index in self._images.batches(number, offset):
                yield self._together(self._features(images), index)
                first += 1
                if first == last:
                    return

    def close(self) -> None:
        """End the loader's workers; to be called by whoever made this."""
        self._images.close()

    def _features(self, images: Tensor) -> Tensor:
        autocast = self._runtime.autocast
        casting = nullcontext() if autocast is None else torch.autocast(self._runtime.device.type, dtype=autocast)
        with torch.inference_mode(), eval_mode(self._network), casting:
            parts = [self._network(part) for part in images.split(self._runtime.batch_size or BATCH_SIZE)]
        # A copy outside inference mode, for the classifiers' products.
        return torch.cat(parts).float().clone()

    def _together(self, features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        processes = self._runtime.processes
        positions = index.cpu()
        if not torch.isfinite(features).all():
            raise UserError(f"features of random crops are not finite; {why_not_finite(self._name, self._network)}")
        if processes.count == 1:
            return features, positions
        share = self.batch // processes.count
        mine = processes.share(self.batch, share)
        rows, places = torch.empty(self.batch, features.shape[1]), torch.empty(self.batch, 1, dtype=torch.int64)
        rows[mine], places[mine] = features.cpu(), positions[:, None]
        processes.gather_rows(rows, share)
        processes.gather_rows(places, share)
        return rows.to(self._runtime.device), places[:, 0]
