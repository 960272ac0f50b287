"""In which order an epoch visits the images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.randomness import generator

SHUFFLE_PURPOSE = "shuffle"


def epoch_order(count: int, batch: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The samples of each step of an epoch.

    A permutation of all ``count`` images, drawn at (seed, "shuffle", epoch), cut into batches; the last, incomplete one is dropped.

    Returns
    -------
    int64 (steps, batch).

    Raises
    ------
    UserError
        If there are fewer images than one batch takes.
    """
    if count < batch:
        raise UserError(f"a batch of {batch} cannot be filled from {count} training images; set batch to {count} or less")
    steps = count // batch
    order = generator(seed, SHUFFLE_PURPOSE, epoch=epoch).permutation(count)
    return order[: steps * batch].reshape(steps, batch)
