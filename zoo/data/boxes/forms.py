"""What the numbers of boxes look like, where they do not look like what the format says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of boxes of one set that must look so, before all are taken so.
FITTING = 0.95
# A normalised coordinate is at most this.
_UNIT = 1.0 + 1e-6


def normalised(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Which boxes are in shares of their image (0 to 1) instead of pixels; None where nearly all are not.

    Parameters
    ----------
    boxes
        (N, 4), corners or x, y, width, height as the file has them.
    sizes
        (N, 2): width and height of each box's image.
    """
    if not len(boxes):
        return None
    unit = np.asarray(((boxes >= 0) & (boxes <= _UNIT)).all(axis=1) & (sizes > 2).all(axis=1))
    return unit if unit.mean() >= FITTING and (boxes[unit] % 1 != 0).any() else None


def begin_at_zero(corners: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Which boxes begin at 0, where a set of VOC's corners counts pixels from 0: some begin there, and none reaches the last pixel from 1.

    Parameters are (N, 4) ``xmin, ymin, xmax, ymax`` and (N, 2) width and height. None where the set counts from 1.
    """
    if not len(corners):
        return None
    x0, y0, x1, y1 = corners.T
    zero: NDArray[np.bool_] = np.asarray((x0 == 0) | (y0 == 0))
    return zero if zero.any() and not ((x1 >= sizes[:, 0]) | (y1 >= sizes[:, 1])).any() else None
