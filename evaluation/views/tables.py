"""What a survey says of each image, as views take it: arrays with a row per image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# float32 (N, 4): where the object is, (h0, w0, h1, w1) in shares of height and width.
BOXES = "boxes"
# int64 (N, k): the images that are most like each image, the nearest first.
NEIGHBOURS = "neighbours"


class Tables(dict[str, NDArray[Any]]):
    """Name -> array whose row i belongs to image i; a name is absent before its first survey.

    The rows of a batch travel to the loader's workers with the batch itself. So workers that stay alive see new tables at once, and none
    holds a copy of them.
    """

    def rows(self, index: NDArray[np.int64]) -> Tables:
        """The rows of the samples ``index`` (B,)."""
        return Tables({name: table[index] for name, table in self.items()})

    @classmethod
    def of(cls, tables: Mapping[str, NDArray[Any]] | None) -> Tables:
        """``tables``, or none."""
        return cls(tables or {})
