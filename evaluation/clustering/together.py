"""Sums of small tensors over processes."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from evaluation.parallel import Processes


def total(values: Tensor, processes: Processes) -> Tensor:
    """The sum of every process's ``values`` (the same shape in each), in each process, on the device of ``values``."""
    if processes.count == 1:
        return values
    travelling = _movable(values)
    distributed.all_reduce(travelling)
    return travelling.to(values.device)


def _movable(values: Tensor) -> Tensor:
    """A copy of ``values`` where the backend can reach it: NCCL moves device memory only."""
    if distributed.get_backend() == "nccl" and values.device.type != "cuda":
        return values.to("cuda")
    return values.clone(memory_format=torch.contiguous_format)
