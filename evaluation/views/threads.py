"""How many of torch's threads make views on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# A view of fewer values than this gains little from a further thread.
VALUES_PER_THREAD = 1 << 20


@contextmanager
def few_threads(values: int) -> Iterator[None]:
    """Use half of torch's threads, or one for each ``VALUES_PER_THREAD`` of a view's ``values`` if these are more.

    Views are made by some hundred kernels of a tenth of a millisecond, after each of which the threads wait for the slowest. Measured on
    two cores at 32 px: the second thread saves a fifth when nothing else runs, and makes views ten times slower as soon as any
    other process wants one of the cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, max(1, threads // 2, values // VALUES_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
