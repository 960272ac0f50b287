"""``micro_batch=auto``: the most images of a forward pass that fit on the GPU, found by trying before the first step.

What is tried is a copy of the method, so that nothing of the run is touched: its weights, statistics, queue and random draws are those of
a run that names the number.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluation.training.optimizers import OptimizerSettings, make_optimizer
from pretrain.batchnorm import splits_of
from pretrain.methods import Method
from pretrain.methods.base import Place
from zoo.errors import UserError

# The share of the GPU's memory that a step may take: surveys, other shapes and what the allocator cannot join need the rest.
LARGEST_SHARE = 0.92


def smallest_part(method: Method, share: int) -> int:
    """The fewest images of a forward pass that leave ``method`` what it is: its process has ``share`` images of a batch.

    All of them where they are each other's negatives; two for each group of batch norm, whose statistics one image does not have.
    """
    if method.whole_share:
        return share
    return 2 * splits_of(method) if any(isinstance(module, _BatchNorm) for module in method.modules()) else 1


def candidates(share: int, least: int, splits: int) -> list[int]:
    """Images per forward pass that divide ``share``, into groups of batch norm too, from all of it down to ``least``."""
    return [size for size in range(share, 0, -1) if share % size == 0 and size % splits == 0 and size >= least]


def largest_that_fits(sizes: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The first of ``sizes`` (descending) that fits. Raises UserError where none does."""
    for size in sizes:
        if fits(size):
            return size
    raise UserError(
        f"not even micro_batch={sizes[-1]}, the least that the method needs, fits on the GPU; lower batch or views.size, take a smaller "
        "backbone, set activation_checkpointing=true (vision transformers), or use precision=bf16"
    )


def find_micro_batch(
    method: Method,
    prepare: Callable[[Method], nn.Module],
    share: int,
    view_sizes: Sequence[int],
    optimizer: OptimizerSettings,
    tables: dict[str, NDArray[Any]],
    *,
    device: torch.device,
    autocast: bool,
) -> int:
    """The largest micro-batch that fits.

    Parameters
    ----------
    method
        As the run has built it, on the CPU. It is not changed.
    prepare
        What is done with a method before its first step: brought to the device, laid out, compiled; in place.
    share
        Images of this process in a batch.
    view_sizes
        Side in pixels of each of the method's views.
    optimizer
        Whose state takes memory too.
    tables
        What surveys would make (:func:`pretrain.fitting.made_up.made_up_tables`).
    autocast
        Whether networks run in bfloat16.

    Raises
    ------
    UserError
        Not even the least that the method needs fits.
    """
    sizes = candidates(share, smallest_part(method, share), splits_of(method))
    if device.type != "cuda":
        # The memory of a host has no end at which it could be tried.
        return sizes[0]

    def fits(size: int) -> bool:
        tried = _fits(method, prepare, size, share, view_sizes, optimizer, tables, device, autocast)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return tried

    return largest_that_fits(sizes, fits)


def _fits(
    method: Method,
    prepare: Callable[[Method], nn.Module],
    size: int,
    share: int,
    view_sizes: Sequence[int],
    settings: OptimizerSettings,
    tables: dict[str, NDArray[Any]],
    device: torch.device,
    autocast: bool,
) -> bool:
    """Whether a step with forward passes of ``size`` images goes through on the GPU."""
    try:
        copy = deepcopy(method).train()
        prepare(copy)
        copy.receive(tables)
        optimizer = make_optimizer(copy.parameter_groups(), settings, 0.0)
        views = [torch.zeros(share, 3, side, side, device=device) for side in view_sizes]
        index = torch.zeros(share, dtype=torch.int64, device=device)
        # Gradients of a first pass are there while a second one runs.
        passes = min(2, share // size)
        copy.start_step(0)
        for part in range(passes):
            rows = slice(part * size, (part + 1) * size)
            with torch.autocast(device.type, dtype=torch.bfloat16) if autocast else nullcontext():
                losses = copy([view[rows] for view in views], index[rows], Place(0, part, passes))
            torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        copy.finish_step()
    except torch.OutOfMemoryError:
        return False
    if device.type != "cuda":
        return True
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_reserved(device) <= LARGEST_SHARE * total
