"""A method's training step on views that are ready, for benchmarks that compare methods."""

from __future__ import annotations

import time

import torch

from pretrain.methods import Method
from pretrain.methods.base import Place


class Step:
    """Forward, backward, optimizer and averages of a method.

    Parameters
    ----------
    method
        On its device, in train mode.
    views
        float32 (B, 3, S, S) each, on that device.
    bf16
        Networks under autocast to bfloat16, as on a GPU.
    first
        The global step to begin at.
    """

    def __init__(self, method: Method, views: list[torch.Tensor], bf16: bool = False, first: int = 0) -> None:
        self.method, self.views, self.bf16, self.first = method, views, bf16, first
        self.optimizer = torch.optim.SGD(method.parameter_groups()[0].parameters, lr=0.03, momentum=0.9, weight_decay=1e-4)
        self.index = torch.arange(len(views[0]), device=views[0].device)

    def seconds(self, steps: int) -> float:
        """Seconds of one step by the wall clock, the mean over ``steps``."""
        return self.timed(steps)[0]

    def timed(self, steps: int) -> tuple[float, float]:
        """Seconds of one step by the wall clock, and of this process's processors, the mean over ``steps``."""
        device = self.index.device
        started, used = time.perf_counter(), time.process_time()
        for step in range(self.first, self.first + steps):
            self.method.start_step(step)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
                losses = self.method(self.views, self.index, Place(step))
            torch.stack(list(losses.values())).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.method.finish_step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps, (time.process_time() - used) / steps
