"""Neighbours: the training images that the key encoder finds most alike (CsMl, arXiv 2012.02733)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.parallel import Processes
from evaluation.search import neighbours_of_all
from evaluation.views.tables import NEIGHBOURS
from pretrain.survey.encoder_pass import EncoderPass, Outputs
from zoo.errors import UserError


class NeighbourMaker:
    """Makes the table of neighbours: the k other images with the largest cosine to the key encoder's pooled features of the centre crop.

    Each process keeps the features of its share of the images, in its own memory, and searches the neighbours of these among all.

    Parameters
    ----------
    k
        Neighbours of an image.
    every_epochs
        The table is made at the start of every epoch that this divides, the first one among them.
    device
        Where the search is computed.
    labels
        int64 (N,) by label level: only measured against.
    """

    encoder_pass = EncoderPass("key", "centre")

    def __init__(self, k: int, every_epochs: int, *, device: torch.device, labels: Mapping[str, NDArray[np.int64]]) -> None:
        self._k, self._every, self._device, self._labels = k, every_epochs, device, labels
        self._count, self._share = 0, slice(0, 0)
        self._features: Tensor | None = None
        self._last: tuple[slice, Tensor] | None = None

    def due(self, epoch: int) -> bool:
        """Whether neighbours are searched at the start of ``epoch`` (counted from 0)."""
        return epoch % self._every == 0

    def start(self, count: int) -> None:
        self._count, self._share, self._features, self._last = count, Processes.current().share(count, BATCH_SIZE), None, None

    def update(self, outputs: Outputs) -> None:
        if self._features is None:
            # In the host's memory: with 2048 numbers an image, ImageNet's are 10 GB.
            self._features = torch.empty(self._share.stop - self._share.start, outputs.features.shape[1])
        # Fetched when the next batch is under way, so that a GPU is not left without work meanwhile.
        self._fetch()
        self._last = outputs.rows, outputs.features

    def _fetch(self) -> None:
        if self._last is not None and self._features is not None:
            rows, features = self._last
            self._features[rows.start - self._share.start : rows.stop - self._share.start] = features.cpu()
        self._last = None

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        self._fetch()
        width = next(number for number in processes.gather_objects(None if self._features is None else self._features.shape[1]) if number)
        features = torch.empty(0, width) if self._features is None else self._features
        self._features = None
        finite = bool(features.isfinite().all())
        processes.raise_first(None if finite else UserError("features are not finite, so no neighbours can be found; lower the rate"))
        similarity, index = neighbours_of_all(
            features, self._k, total=self._count, chunk=BATCH_SIZE, normalize=True, device=self._device, processes=processes
        )
        table = index.numpy()
        # The main process alone writes the log.
        numbers = neighbour_statistics(table, similarity.numpy(), self._labels) if processes.is_main else {}
        return {NEIGHBOURS: table}, numbers, self._text(numbers)

    def _text(self, numbers: Mapping[str, float]) -> str:
        text = f"{self._k} neighbours of each image"
        if numbers:
            text += f", mean cosine {numbers['neighbours/similarity']:.3f}"
            for name in self._labels:
                text += f"; of the same '{name}' {100 * numbers[f'neighbours/purity_{name}']:.1f} %"
        return text


def neighbour_statistics(
    table: NDArray[np.int64], similarity: NDArray[np.float32], labels: Mapping[str, NDArray[np.int64]]
) -> dict[str, float]:
    """What the log says of neighbours.

    Parameters
    ----------
    table, similarity
        int64 and float32 (N, k).
    labels
        int64 (N,) by label level.

    Returns
    -------
    ``neighbours/similarity``, the mean cosine; ``neighbours/named``, the share of images that are a neighbour of any other; for each label
    level L ``neighbours/purity_L``, the share of neighbours with their image's label.
    """
    numbers = {
        "neighbours/similarity": float(similarity.mean(dtype=np.float64)),
        "neighbours/named": len(np.unique(table)) / len(table),
    }
    for name, truth in labels.items():
        numbers[f"neighbours/purity_{name}"] = float((truth[table] == truth[:, None]).mean())
    return numbers


def check_neighbours(table: NDArray[Any], count: int, k: int) -> None:
    """Raise UserError where a checkpoint's neighbours are not k of each of ``count`` images."""
    if table.shape != (count, k) or not ((table >= 0) & (table < count)).all():
        raise UserError(
            f"the neighbours are of shape {table.shape}, but there are {count} training images with method.k={k}; go on with the data and "
            "the k that they were made of"
        )
