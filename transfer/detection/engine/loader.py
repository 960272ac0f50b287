"""Training batches whose every random choice depends on (seed, position) alone, so that a resumed run continues their order.

detectron2's own sampler starts anew with every process, its augmentations draw from each worker's generator, and its grouping by aspect
ratio keeps images back that a killed run never sees again. Here the order of an epoch, an image's augmentation and the grouping are
functions of the position in the stream, and a run resumed at iteration n goes on with batch n.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from evaluation.loading import ClosableLoader
from zoo.errors import UserError, first_line
from zoo.randomness import generator

_PURPOSE = "detection"
_SEED_RANGE = 1 << 32


class KeyedBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (position, index) of one process, without end.

    The stream is one shuffle of the set after the other; process r of w takes positions r, r + w, ... As in detectron2, a batch holds
    images that are all wider than high, or all not, in the order in which each kind fills it.

    Parameters
    ----------
    wide
        bool array (N,): which images are wider than high; None: images are not grouped.
    size
        N.
    batch
        Images per batch of this process.
    seed, purpose
        The key of the shuffles.
    rank, world
        This process, and how many there are.
    start
        Batches to leave out at the start.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        *,
        wide: NDArray[np.bool_] | None = None,
        seed: int = 0,
        purpose: str = "train",
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        self.size, self.batch, self.wide = size, batch, wide
        self.seed, self.purpose, self.rank, self.world, self.start = seed, purpose, rank, world, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        made = 0
        waiting: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for position, index in self._stream():
            bucket = waiting[0 if self.wide is None or self.wide[index] else 1]
            bucket.append((position, index))
            if len(bucket) == self.batch:
                made += 1
                if made > self.start:
                    yield bucket[:]
                bucket.clear()

    def _stream(self) -> Iterator[tuple[int, int]]:
        epoch = 0
        while True:
            order = generator(self.seed, f"{_PURPOSE} {self.purpose} order", epoch=epoch).permutation(self.size).tolist()
            first = epoch * self.size
            # The first position of this epoch that is this process's.
            for position in range(first + (self.rank - first) % self.world, first + self.size, self.world):
                yield position, order[position - first]
            epoch += 1


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an image that could not be made ready, on its way out of a worker process."""

    reason: str


class KeyedImages(Dataset[Any]):
    """Images made ready for training, each with random numbers of its own.

    Parameters
    ----------
    records
        A sequence of detectron2's records.
    mapper
        Record -> what the model takes, such as :class:`~transfer.detection.engine.mapper.LayerMapper`; draws from NumPy's and Python's
        global generators.
    seed, purpose
        The key; the position in the stream is the counter.
    """

    def __init__(self, records: Any, mapper: Callable[[Any], Any], seed: int, purpose: str = "train") -> None:
        self.records, self.mapper, self.seed, self.purpose = records, mapper, seed, purpose

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        position, index = key
        record = self.records[index]
        with global_randomness(self.seed, f"{_PURPOSE} {self.purpose} augmentation", position):
            try:
                return self.mapper(record)
            except Exception as error:  # what an image, or a transform, may raise
                return Unreadable(f"{record['file_name']} cannot be trained on ({first_line(error)})")


class TrainLoader:
    """Batches of images that are ready; iterating raises UserError where one could not be made ready. Workers run until :meth:`close`."""

    def __init__(self, images: KeyedImages, batches: KeyedBatches, workers: int) -> None:
        self.batches = batches
        # A loader draws its workers' seed with its first batch: from a generator of its own, since torch's belongs to the step.
        apart = torch.Generator()
        self._loader: ClosableLoader[Any] = ClosableLoader(
            images, batch_sampler=batches, num_workers=workers, collate_fn=_as_it_is, generator=apart
        )

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self._loader:
            for image in batch:
                if isinstance(image, Unreadable):
                    raise UserError(f"{image.reason}; mend the image or its annotation, or remove it from the list")
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._loader.close()


def _as_it_is(batch: list[Any]) -> list[Any]:
    return batch


@contextmanager
def global_randomness(seed: int, purpose: str, position: int) -> Iterator[None]:
    """NumPy's and Python's global generators, which augmentations draw from, at one address; afterwards they are as before."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    key = int(generator(seed, purpose, position).integers(_SEED_RANGE))
    np.random.seed(key)  # noqa: NPY002
    random.seed(key)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of torch's generators for one step of one process: which anchors and regions the losses sample."""
    return int(generator(seed, f"{_PURPOSE} step", step, view=rank).integers(1 << 63))
