"""What the pieces share: the clock, waits for the device, memory."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, *, repeats: int = 5, warm_up: int = 1) -> float:
    """The median time of ``work``, the device's work included."""
    for _ in range(warm_up):
        work()
    taken = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def in_turn(
    first: Callable[[], object], second: Callable[[], object], device: torch.device, *, pairs: int = 5
) -> tuple[float, float, float]:
    """Median times of two works that take turns, and the median of the ratios first / second."""
    first(), second()
    timed = []
    for _ in range(pairs):
        timed.append((seconds(first, device, repeats=1, warm_up=0), seconds(second, device, repeats=1, warm_up=0)))
    return statistics.median(a for a, _ in timed), statistics.median(b for _, b in timed), statistics.median(a / b for a, b in timed)


def waits(work: Callable[[], object], device: torch.device) -> int | None:
    """How often the host waited for the device during ``work``, as torch counts it; None on a CPU."""
    if device.type != "cuda":
        return None
    synchronise(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


def peak_gib(work: Callable[[], object], device: torch.device) -> float | None:
    """GiB of tensors on the device at most during ``work``; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) / 2**30
