"""Crops of images that are all of one size and in memory: they lie on the device, and are cut there."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.views.parameters import draw_crops, to_device
from evaluation.views.resample import resample, to_planes
from evaluation.views.samplers import make_sampler
from evaluation.views.settings import ViewSettings
from evaluation.views.shown import Step
from evaluation.views.tables import BOXES


class InMemoryCrops:
    """Cuts the views of whole batches on the device.

    Parameters
    ----------
    pixels
        uint8 (N, H, W, 3). On the CPU they are not copied.
    views
        The settings of each view.
    sources
        Whose pixels each view shows.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], views: Sequence[ViewSettings], sources: Sequence[str], seed: int, device: torch.device
    ) -> None:
        self._views, self._sources, self._seed, self._device = views, sources, seed, device
        self._samplers = [make_sampler(view) for view in views]
        self._image_size = np.array(pixels.shape[1:3], dtype=np.int64)
        with warnings.catch_warnings():
            # Arrays mapped from a file are read-only, of which torch warns; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._pixels = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)

    def crops(self, steps: Iterable[Step]) -> Iterator[list[Tensor]]:
        """For each step, one float32 tensor (b, 3, S, S) in [0, 1] per view."""
        for step in steps:
            planes = {
                source: to_planes(self._pixels.index_select(0, to_device(shown.images, self._device)))
                for source, shown in step.shown.items()
            }
            yield [self._view(planes[source], step, view) for view, source in enumerate(self._sources)]

    def close(self) -> None:
        """Nothing runs that would have to end."""

    def _view(self, planes: Tensor, step: Step, view: int) -> Tensor:
        sizes, settings = np.broadcast_to(self._image_size, (len(step.index), 2)), self._views[view]
        boxes = step.shown[self._sources[view]].rows.get(BOXES)
        crops = draw_crops(self._samplers[view], settings, sizes, step.index, seed=self._seed, epoch=step.epoch, view=view, boxes=boxes)
        places, flip, vertical_flip = (to_device(array, self._device) for array in (crops.boxes, crops.flip, crops.vertical_flip))
        return resample(planes, places, flip, settings.size, settings.interpolation, vertical_flip)
