"""Batch norm in groups: on one device, the statistics that several devices would have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Split:
    """Mixed into a batch norm: in train mode the batch is normalised in ``splits`` consecutive parts, each by its own statistics.

    Running statistics become the mean over the parts of what each part alone would have made of them. Parameter and buffer names,
    and everything in eval mode, are as before.
    """

    splits: int

    def forward(self, x: Tensor) -> Tensor:
        forward = super().forward  # type: ignore[misc]
        assert isinstance(self, _BatchNorm)
        if not self.training or self.splits == 1:
            output: Tensor = forward(x)
            return output
        if len(x) % self.splits:
            raise ValueError(f"a batch of {len(x)} cannot be split into {self.splits} equal parts")
        buffers = dict(self.named_buffers(recurse=False))
        outputs, results = [], []
        for part in x.chunk(self.splits):
            # Each part updates its own copies: backward needs them as they were in forward. And it is the layer's own forward, so that
            # timm's batch norms with an activation keep theirs.
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            self._buffers.update(copies)
            outputs.append(forward(part))
            results.append(copies)
        self._buffers.update(buffers)
        for name, buffer in buffers.items():
            stacked = torch.stack([copies[name] for copies in results])
            buffer.copy_(stacked.mean(0) if buffer.is_floating_point() else stacked[0])
        return torch.cat(outputs)


def split_batchnorm(module: nn.Module, splits: int) -> nn.Module:
    """Make every batch norm in ``module`` work in ``splits`` groups, in place."""
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.__class__ = type(f"Split{type(child).__name__}", (_Split, type(child)), {})
            child.splits = splits  # type: ignore[assignment]
    return module


def splits_of(module: nn.Module) -> int:
    """The number of groups that :func:`split_batchnorm` set in ``module``; 1 where it was not called."""
    return max((child.splits for child in module.modules() if isinstance(child, _Split)), default=1)
