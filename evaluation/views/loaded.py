"""Crops of images that must be decoded: a loader's worker decodes each image of a batch once and cuts all views that show it.

A worker prepares whole batches, so its random parameters are drawn for many samples at once; what it makes of a sample depends on the
sample's address alone (:mod:`evaluation.views.parameters`), hence not on how many workers there are or which images are decoded together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from evaluation.loading import ClosableLoader
from evaluation.views.parameters import draw_crops, draw_photometric
from evaluation.views.pillow import apply_photometric, cut
from evaluation.views.resample import to_planes
from evaluation.views.samplers import make_sampler
from evaluation.views.settings import ViewSettings
from evaluation.views.shown import Step
from evaluation.views.tables import BOXES
from zoo.data.base import Images
from zoo.errors import UserError

# How many decoded images a worker holds at a time.
DECODED_AT_ONCE = 32


@dataclass(frozen=True)
class _Failure:
    """A UserError on its way from a worker: raised there, it would arrive with the worker's stack trace in its text."""

    message: str


class _Steps(Sampler[Step]):
    """The batches that the workers are to prepare."""

    def __init__(self) -> None:
        self.steps: Iterable[Step] = ()

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


class _Batches(Dataset[list[Tensor] | _Failure]):
    """One item is one batch: a uint8 tensor (b, S, S, 3) per view."""

    def __init__(self, images: Images, views: Sequence[ViewSettings], sources: Sequence[str], seed: int) -> None:
        self._images, self._views, self._sources, self._seed = images, views, sources, seed
        self._samplers = [make_sampler(view) for view in views]

    def __getitem__(self, step: Step) -> list[Tensor] | _Failure:
        views = [np.empty((len(step.index), view.size, view.size, 3), dtype=np.uint8) for view in self._views]
        # An image may be a sample and the neighbour of others.
        distinct = np.unique(np.concatenate([shown.images for shown in step.shown.values()]))
        try:
            for start in range(0, len(distinct), DECODED_AT_ONCE):
                self._fill(views, distinct[start : start + DECODED_AT_ONCE], step)
        except UserError as error:
            return _Failure(str(error))
        return [torch.from_numpy(view) for view in views]

    def _fill(self, views: list[NDArray[np.uint8]], images: NDArray[np.int64], step: Step) -> None:
        """Make the views that show any of ``images`` (ascending)."""
        decoded = [self._images.read(int(i)) for i in images]
        sizes = np.array([(image.height, image.width) for image in decoded], dtype=np.int64)
        for number, (view, source) in enumerate(zip(views, self._sources, strict=True)):
            shown = step.shown[source]
            rows = np.flatnonzero(np.isin(shown.images, images))
            places = np.searchsorted(images, shown.images[rows])
            address = {"seed": self._seed, "epoch": step.epoch, "view": number}
            settings, index, boxes = self._views[number], step.index[rows], shown.rows.rows(rows).get(BOXES)
            crops = draw_crops(self._samplers[number], settings, sizes[places], index, **address, boxes=boxes)
            colours = draw_photometric(settings, index, **address) if settings.backend == "cpu" else None
            for drawn, (row, place) in enumerate(zip(rows, places, strict=True)):
                result = cut(decoded[place], crops, drawn, settings.size, settings.interpolation)
                view[row] = np.asarray(result if colours is None else apply_photometric(result, colours, drawn))


class LoadedCrops:
    """Cuts views with ``workers`` loader processes (0: in this one) that stay alive between epochs, until :meth:`close`.

    With the settings' backend ``cpu`` the views come with their photometric augmentation.
    """

    def __init__(
        self, images: Images, views: Sequence[ViewSettings], sources: Sequence[str], seed: int, device: torch.device, workers: int
    ) -> None:
        self._steps, self._device = _Steps(), device
        self._loader = ClosableLoader(
            _Batches(images, views, sources, seed),
            batch_size=None,
            sampler=self._steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # Without one of its own the loader would draw from torch's global generator, which the model may use.
            generator=torch.Generator(),
        )

    def crops(self, steps: Iterable[Step]) -> Iterator[list[Tensor]]:
        """For each step, one float32 tensor (b, 3, S, S) in [0, 1] per view."""
        self._steps.steps = steps
        for views in self._loader:
            if isinstance(views, _Failure):
                raise UserError(views.message)
            yield [to_planes(view.to(self._device, non_blocking=True)).div_(255.0) for view in views]

    def close(self) -> None:
        """End the workers."""
        self._loader.close()
