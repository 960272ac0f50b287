"""Features of training images, batch by batch, for classifiers that are trained in steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.tasks.linear.presets import LinearPreset
from evaluation.views.parameters import to_device
from zoo.randomness import generator

_ORDER_PURPOSE = "linear order"


class FeatureBatches(Protocol):
    """Features of training images, batch by batch."""

    batch: int
    steps_per_epoch: int

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """float32 (B, D) on the device of the classifiers, and the images' positions, int64 (B,) on the CPU."""


class CachedBatches:
    """Batches of features that were computed once, in a new order each epoch.

    The order is an endless row of permutations, the p-th of them drawn at (seed, "linear order", p): an epoch of one pass is one of them.

    Parameters
    ----------
    features
        float32 (N, D) on any device.
    device
        Where batches go; the matrix itself stays where it is.
    left_out
        Positions of images that are in no batch. Order and number of the steps stay as they are with them, so a batch may be smaller, or
        even empty.
    """

    def __init__(
        self, features: Tensor, preset: LinearPreset, *, seed: int, device: torch.device, left_out: NDArray[np.int64] | None = None
    ) -> None:
        self._features, self._seed, self._device = features, seed, device
        self._kept: NDArray[np.bool_] | None = None
        if left_out is not None:
            self._kept = np.ones(len(features), dtype=bool)
            self._kept[left_out] = False
        self.batch = min(preset.batch, len(features))
        one_pass = len(features) // self.batch if preset.drop_last else -(-len(features) // self.batch)
        self.steps_per_epoch = preset.steps_per_epoch or one_pass
        self._endless = preset.steps_per_epoch is not None

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._features)
        for step in range(self.steps_per_epoch):
            start = (epoch * self.steps_per_epoch + step if self._endless else step) * self.batch
            stop = start + self.batch if self._endless else min(start + self.batch, count)
            index = self._between(start, stop) if self._endless else self._order(epoch)[start:stop]
            if self._kept is not None:
                index = index[self._kept[index]]
            rows = self._features.index_select(0, to_device(index, self._features.device))
            yield rows.to(self._device), torch.from_numpy(index)

    def _between(self, start: int, stop: int) -> NDArray[np.int64]:
        """Images at these places of the endless row."""
        count = len(self._features)
        pieces = []
        while start < stop:
            number, first = divmod(start, count)
            last = min(count, first + stop - start)
            pieces.append(self._order(number)[first:last])
            start += last - first
        return np.concatenate(pieces)

    def _order(self, number: int) -> NDArray[np.int64]:
        if getattr(self, "_drawn", (-1, None))[0] != number:
            self._drawn = number, generator(self._seed, _ORDER_PURPOSE, epoch=number).permutation(len(self._features))
        return self._drawn[1]


def near(features: Tensor, device: torch.device) -> Tensor:
    """The matrix on a GPU if it takes at most half of what is free there; else where it is."""
    if device.type != "cuda" or features.device == device:
        return features
    free, _ = torch.cuda.mem_get_info(device)
    return features.to(device) if 2 * features.nbytes <= free else features
