"""All inner products of the rows of two float32 matrices, by the fastest exact product of this processor.

torch multiplies matrices by MKL, which leaves AVX-512 unused on AMD's processors. oneDNN, which torch has for its layers, uses it wherever
it is there: on a Zen 5 its products are twice as fast, with roundings of the same size.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

# Matrices with fewer rows are multiplied by other kernels, whose last bits differ; padded to this many rows, equal vectors get equal
# products wherever they stand.
FEWEST_ROWS = 16
# oneDNN gives its products in memory of its own, from which they are copied while they are in the cache: so many numbers at a time, for
# each thread. Where they are many more, the memory is new each time, and the system takes longer to provide it than the product takes.
_AT_ONCE, _ROWS_AT_ONCE = 1 << 18, 1024


class Products:
    """Products in memory that is used again.

    Parameters
    ----------
    smallest
        Products of fewer multiplications are MKL's, which takes less time to begin. With 0 all are by one library, so that equal vectors
        have equal products, bit for bit, whatever the shapes of the matrices in which they stand.
    """

    def __init__(self, smallest: int = 0) -> None:
        self.smallest, self.buffer = smallest, torch.empty(0)

    def of(self, left: Tensor, right: Tensor, offsets: Tensor | None = None) -> Tensor:
        """``left @ right.T``, plus ``offsets`` in each row.

        Parameters
        ----------
        left, right
            float32 (n, D) and (m, D), on one device.
        offsets
            float32 (m,).

        Returns
        -------
        float32 (n, m), contiguous, which the next call writes over.
        """
        shape = (len(left), len(right))
        if self.buffer.numel() < shape[0] * shape[1] or self.buffer.device != left.device:
            self.buffer = torch.empty(shape[0] * shape[1], device=left.device)
        out = self.buffer[: shape[0] * shape[1]].view(shape)
        large = shape[0] * shape[1] * left.shape[1] >= max(1, self.smallest)
        if large and left.device.type == "cpu" and torch.backends.mkldnn.enabled and onednn_is_faster():
            for start in range(0, len(left), _ROWS_AT_ONCE):
                # No part of a single row, which would be multiplied by another kernel.
                rows = slice(max(0, min(start, len(left) - FEWEST_ROWS)), start + _ROWS_AT_ONCE)
                _by_onednn(left[rows], right, offsets, out[rows])
            return out
        return torch.mm(left, right.T, out=out) if offsets is None else torch.addmm(offsets, left, right.T, out=out)


def at_least_fewest(rows: Tensor) -> Tensor:
    """The rows (n, D), and rows of zeros where there are fewer than ``FEWEST_ROWS``."""
    missing = FEWEST_ROWS - len(rows)
    return functional.pad(rows, (0, 0, 0, missing)) if missing > 0 else rows


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether this processor has what oneDNN uses and MKL may not."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _by_onednn(left: Tensor, right: Tensor, offsets: Tensor | None, out: Tensor) -> None:
    # Only here are there matrices of oneDNN's own kind, which torch's linear layer multiplies by it.
    factor = left.to_mkldnn()
    step = max(FEWEST_ROWS, torch.get_num_threads() * _AT_ONCE // len(left))
    for start in range(0, len(right), step):
        columns = slice(max(0, min(start, len(right) - FEWEST_ROWS)), start + step)
        product = functional.linear(factor, right[columns].to_mkldnn()).to_dense()
        if offsets is None:
            out[:, columns] = product
        else:
            torch.add(product, offsets[columns], out=out[:, columns])
