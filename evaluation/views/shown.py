"""Whose pixels a view shows: the sample's own image, or one that was drawn among its neighbours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.views.tables import NEIGHBOURS, Tables
from zoo.randomness import uniforms

SELF, NEIGHBOUR = "self", "neighbour"
SOURCES = (SELF, NEIGHBOUR)
NEIGHBOUR_PURPOSE = "neighbour"


@dataclass(frozen=True)
class Shown:
    """The images that views of one source show: ``images`` int64 (b,), their positions in the data set, and their rows of the tables."""

    images: NDArray[np.int64]
    rows: Tables


@dataclass(frozen=True)
class Step:
    """One batch to be made.

    Attributes
    ----------
    epoch
        Counted from 0.
    index
        int64 (b,): the samples. Every random choice of every view is drawn at their addresses, whatever image the view shows.
    shown
        Source -> the images of its views, as many as there are samples.
    """

    epoch: int
    index: NDArray[np.int64]
    shown: dict[str, Shown]

    @classmethod
    def of(cls, epoch: int, index: NDArray[np.int64], tables: Tables, sources: Collection[str], seed: int) -> Step:
        """The step of the samples ``index`` for views of ``sources``."""
        # Crops follow what a survey says of the image that is seen, not of its anchor.
        of_images = Tables({name: table for name, table in tables.items() if name != NEIGHBOURS})
        shown = {}
        for source in sources:
            images = index if source == SELF else draw_neighbours(tables, index, seed=seed, epoch=epoch)
            shown[source] = Shown(images, of_images.rows(images))
        return cls(epoch, index, shown)


def draw_neighbours(tables: Tables, index: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """int64 (b,): for each sample one of its neighbours, all equally likely, anew in each epoch; itself before there are any.

    All views of a sample in an epoch that show a neighbour show the same one.
    """
    if NEIGHBOURS not in tables:
        return index
    mine = tables[NEIGHBOURS][index]
    column = np.floor(uniforms(seed, NEIGHBOUR_PURPOSE, 1, index=index, epoch=epoch)[:, 0] * mine.shape[1]).astype(np.int64)
    return np.asarray(mine[np.arange(len(index)), column], dtype=np.int64)
