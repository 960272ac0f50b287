"""Crops of images that must be decoded: a loader's worker decodes each image once and cuts all its views.

A worker prepares whole batches, so its random parameters are drawn for many samples at once; what it makes of a sample depends on the
sample's address alone (:mod:`pretrain.views.parameters`), hence not on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.views.parameters import draw_crops, draw_photometric
from pretrain.views.pillow import apply_photometric, cut
from pretrain.views.resample import to_planes
from pretrain.views.samplers import make_sampler
from pretrain.views.settings import ViewSettings
from pretrain.views.tables import BOXES, Tables
from zoo.data.base import Images
from zoo.errors import UserError

# How many decoded images a worker holds at a time.
DECODED_AT_ONCE = 32

Step = tuple[int, NDArray[np.int64], Tables]


@dataclass(frozen=True)
class _Failure:
    """A UserError on its way from a worker: raised there, it would arrive with the worker's stack trace in its text."""

    message: str


class _Steps(Sampler[Step]):
    """The batches that the workers are to prepare: (epoch, samples, their rows of the tables)."""

    def __init__(self) -> None:
        self.epoch = 0
        self.steps: NDArray[np.int64] = np.empty((0, 0), dtype=np.int64)
        self.tables = Tables()

    def __iter__(self) -> Iterator[Step]:
        return ((self.epoch, index, self.tables.rows(index)) for index in self.steps)


class _Batches(Dataset[list[Tensor] | _Failure]):
    """One item is one batch: a uint8 tensor (b, S, S, 3) per view."""

    def __init__(self, images: Images, views: Sequence[ViewSettings], seed: int) -> None:
        self._images, self._views, self._seed = images, views, seed
        self._samplers = [make_sampler(view) for view in views]

    def __getitem__(self, step: Step) -> list[Tensor] | _Failure:
        epoch, index, tables = step
        views = [np.empty((len(index), view.size, view.size, 3), dtype=np.uint8) for view in self._views]
        try:
            for start in range(0, len(index), DECODED_AT_ONCE):
                part = slice(start, start + DECODED_AT_ONCE)
                rows = tables.rows(np.arange(len(index))[part])
                self._fill([view[part] for view in views], index[part], epoch, rows)
        except UserError as error:
            return _Failure(str(error))
        return [torch.from_numpy(view) for view in views]

    def _fill(self, views: list[NDArray[np.uint8]], index: NDArray[np.int64], epoch: int, rows: Tables) -> None:
        decoded = [self._images.read(int(i)) for i in index]
        sizes = np.array([(image.height, image.width) for image in decoded], dtype=np.int64)
        for number, view in enumerate(views):
            address = {"seed": self._seed, "epoch": epoch, "view": number}
            settings = self._views[number]
            crops = draw_crops(self._samplers[number], settings, sizes, index, **address, boxes=rows.get(BOXES))
            colours = draw_photometric(settings, index, **address) if settings.backend == "cpu" else None
            for row, image in enumerate(decoded):
                result = cut(image, crops, row, settings.size, settings.interpolation)
                view[row] = np.asarray(result if colours is None else apply_photometric(result, colours, row))


class LoadedCrops:
    """Cuts views with ``workers`` loader processes (0: in this one) that stay alive between epochs.

    With the settings' backend ``cpu`` the views come with their photometric augmentation.
    """

    def __init__(self, images: Images, views: Sequence[ViewSettings], seed: int, device: torch.device, workers: int) -> None:
        self._steps, self._device = _Steps(), device
        self._loader = DataLoader(
            _Batches(images, views, seed),
            batch_size=None,
            sampler=self._steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # Without one of its own the loader would draw from torch's global generator, which the model may use.
            generator=torch.Generator(),
        )

    def crops(self, epoch: int, steps: NDArray[np.int64], tables: Tables) -> Iterator[list[Tensor]]:
        """For each row of ``steps`` (samples of one batch), one float32 tensor (b, 3, S, S) in [0, 1] per view."""
        self._steps.epoch, self._steps.steps, self._steps.tables = epoch, steps, tables
        for views in self._loader:
            if isinstance(views, _Failure):
                raise UserError(views.message)
            yield [to_planes(view.to(self._device, non_blocking=True)).div_(255.0) for view in views]
