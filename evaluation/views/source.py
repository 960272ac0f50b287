"""The views of a training run, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.views.in_memory import InMemoryCrops
from evaluation.views.loaded import LoadedCrops
from evaluation.views.order import epoch_order
from evaluation.views.parameters import draw_photometric, to_device
from evaluation.views.photometric import apply_photometric_, normalise_
from evaluation.views.samplers import make_sampler
from evaluation.views.settings import ViewSettings, ViewSpec
from evaluation.views.shown import NEIGHBOUR, SOURCES, Step
from evaluation.views.tables import Tables
from evaluation.views.threads import few_threads
from zoo.data.base import Images
from zoo.errors import UserError


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes
    ----------
    index
        int64 (b,), on the device: the samples' positions in their data set.
    views
        One float32 tensor (b, 3, S, S) per view spec, normalised, on the device.
    step
        The step's number in its epoch, from 0.
    """

    index: Tensor
    views: list[Tensor]
    step: int


class _Crops(Protocol):
    def crops(self, steps: Iterable[Step]) -> Iterator[list[Tensor]]: ...

    def close(self) -> None: ...


class ViewSource:
    """Makes the views that a method declares, of all images, in each epoch's order.

    Images whose pixels are in memory lie on the device, and are cropped and augmented there in batches, with no loader. Others are decoded
    and cropped by loader workers, and augmented on the device. With ``settings.backend`` ``cpu`` the workers do all of it for either.
    Batches are the same, bit for bit, whatever the number of workers and wherever an epoch is entered; those of several ranks, put one
    after the other, are those of one rank.

    Workers stay alive from one epoch to the next: whoever makes a source calls :meth:`close` when it is done.

    Parameters
    ----------
    images
        The data set.
    specs
        The method's views. A view's number, which its random choices are drawn at, is its position here.
    settings
        The recipe's augmentation.
    mean, std
        Per-channel statistics of pixels in [0, 1].
    seed
        Of the run.
    batch
        Global batch size; rank r of W takes samples r * batch / W to (r + 1) * batch / W of each.
    rank, world_size
        This process among those that train together.
    device
        Where views are made and delivered.
    workers
        Loader processes of this rank; not used for images that lie on the device.

    Attributes
    ----------
    steps_per_epoch
        Batches of an epoch.
    follows_boxes
        Whether a view's crops follow the survey's boxes.
    shows_neighbours
        Whether a view shows neighbours of its sample, by the survey's table.

    Raises
    ------
    UserError
        For settings without meaning, fewer images than a batch takes, or a batch that the ranks cannot share equally.
    ValueError
        For a view whose source is unknown.
    """

    def __init__(
        self,
        images: Images,
        specs: Sequence[ViewSpec],
        settings: ViewSettings,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        batch: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        settings.check()
        unknown = settings.each.keys() - {spec.name for spec in specs}
        if unknown:
            raise UserError(f"views.each names '{min(unknown)}', but the views are {', '.join(spec.name for spec in specs)}")
        for spec in specs:
            if spec.source not in SOURCES:
                raise ValueError(f"view '{spec.name}' has the unknown source '{spec.source}'; there are: {', '.join(SOURCES)}")
        if batch % world_size:
            raise UserError(f"a batch of {batch} cannot be shared equally by {world_size} processes; make it a multiple of {world_size}")
        self._count, self._batch, self._seed = len(images), batch, seed
        self._share = slice(rank * batch // world_size, (rank + 1) * batch // world_size)
        self._views, self._device = tuple(spec.resolve(settings) for spec in specs), torch.device(device)
        sources = [spec.source for spec in specs]
        self._sources = tuple(dict.fromkeys(sources))
        self.shows_neighbours = NEIGHBOUR in sources
        self.follows_boxes = any(make_sampler(view).follows_boxes for view in self._views)
        self._mean, self._std = (torch.tensor(values, dtype=torch.float32, device=self._device) for values in (mean, std))
        self._crops: _Crops
        if images.pixels is not None and settings.backend == "device":
            self._crops = InMemoryCrops(images.pixels, self._views, sources, seed, self._device)
        else:
            self._crops = LoadedCrops(images, self._views, sources, seed, self._device, workers)
        largest_side = max(view.size for view in self._views)
        self._largest_view = batch // world_size * 3 * largest_side**2
        self.steps_per_epoch = len(epoch_order(self._count, batch, seed, epoch=0))

    def batches(self, epoch: int, first_step: int = 0, tables: Mapping[str, NDArray[Any]] | None = None) -> Iterator[Batch]:
        """The batches of ``epoch`` from step ``first_step`` on; ``tables`` is what surveys have made (:mod:`evaluation.views.tables`)."""
        order = epoch_order(self._count, self._batch, self._seed, epoch)[first_step:, self._share]
        known = Tables.of(tables)
        crops = self._crops.crops(Step.of(epoch, index, known, self._sources, self._seed) for index in order)
        for step, index in enumerate(order, start=first_step):
            # Not around the yield: what is done with the batch is to have all threads.
            with few_threads(self._largest_view) if self._device.type == "cpu" else nullcontext():
                views = [self._finish(view, index, epoch, number) for number, view in enumerate(next(crops))]
            yield Batch(to_device(index, self._device), views, step)

    def close(self) -> None:
        """End the loader's workers. Batches can be made again, by new ones."""
        self._crops.close()

    def _finish(self, view: Tensor, index: NDArray[np.int64], epoch: int, number: int) -> Tensor:
        settings = self._views[number]
        if settings.backend == "device":
            colours = draw_photometric(settings, index, seed=self._seed, epoch=epoch, view=number)
            apply_photometric_(view, colours, settings.blur_sigma[1])
        return normalise_(view, self._mean, self._std)
