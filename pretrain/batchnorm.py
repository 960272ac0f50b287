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
        # A GPU waits for its host: many small kernels cost more there than the copies of one large one (ResNet-18 at 32 px with eight
        # parts: 4.4 times the step without parts). On a CPU the parts need no copy.
        if x.device.type == "cpu" or any(True for child in self.children() for _ in child.parameters()):
            return self._part_by_part(x)
        return self._in_one_pass(x)

    def _part_by_part(self, x: Tensor) -> Tensor:
        buffers = dict(self.named_buffers(recurse=False))  # type: ignore[attr-defined]
        outputs, results = [], []
        for part in x.chunk(self.splits):
            # Each part updates its own copies: backward needs them as they were in forward. And it is the layer's own forward, so that
            # timm's batch norms with an activation keep theirs.
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            self._buffers.update(copies)  # type: ignore[attr-defined]
            outputs.append(super().forward(part))  # type: ignore[misc]
            results.append(copies)
        self._buffers.update(buffers)  # type: ignore[attr-defined]
        for name, buffer in buffers.items():
            stacked = torch.stack([copies[name] for copies in results])
            buffer.copy_(stacked.mean(0) if buffer.is_floating_point() else stacked[0])
        return torch.cat(outputs)

    def _in_one_pass(self, x: Tensor) -> Tensor:
        """The same, with the channels of all parts beside each other: (N, C, ...) becomes (N / splits, splits C, ...)."""
        splits = self.splits
        parameters, buffers = dict(self._parameters), dict(self._buffers)  # type: ignore[attr-defined]
        for held in (self._parameters, self._buffers):  # type: ignore[attr-defined]
            held.update({name: value.repeat(splits) for name, value in held.items() if value is not None and value.ndim == 1})
        try:
            output = _apart(super().forward(_beside(x, splits)), splits)  # type: ignore[misc]
            made = dict(self._buffers)  # type: ignore[attr-defined]
        finally:
            self._parameters.update(parameters)  # type: ignore[attr-defined]
            self._buffers.update(buffers)  # type: ignore[attr-defined]
        for name, buffer in buffers.items():
            if buffer is not None and buffer.ndim == 1:
                buffer.copy_(made[name].view(splits, -1).mean(0))
        return output


def _beside(x: Tensor, splits: int) -> Tensor:
    """(N, C, ...) -> (N / splits, splits C, ...), of consecutive parts; channels-last stays channels-last."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    x = x.unflatten(0, (splits, -1)).transpose(0, 1)
    if last:
        return x.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)
    return x.flatten(1, 2)


def _apart(x: Tensor, splits: int) -> Tensor:
    """The reverse of :func:`_beside`."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    x = x.unflatten(1, (splits, -1)).transpose(0, 1)
    if last:
        return x.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    return x.flatten(0, 1)


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
