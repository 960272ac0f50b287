"""Parts that the methods share: heads, the moving average, the queue, similarities and InfoNCE, gathering over processes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.parallel import Processes


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """The ranks' tensors (b, ...) one after the other: (b x ranks, ...). No gradient flows."""
    processes = Processes.current().count
    if processes == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(processes)]
    torch.distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


class _GatherWithGradient(torch.autograd.Function):
    """all_gather whose backward sums what every rank's loss says of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        processes = Processes.current()
        gradient = gradient.contiguous()
        torch.distributed.all_reduce(gradient)
        return gradient.chunk(processes.count)[processes.rank]


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """As :func:`gather`, and differentiable.

    When every rank computes the same loss of the gathered rows, its gradient here is (ranks) times that of one process with the joint
    batch; the mean that DistributedDataParallel takes over ranks makes it equal.
    """
    if Processes.current().count == 1:
        return tensor
    gathered: Tensor = _GatherWithGradient.apply(tensor)
    return gathered


def projection(width: int, hidden: int | None, out: int, *, norm: bool = False) -> nn.Module:
    """A projection head: Linear, or Linear - (BatchNorm) - ReLU - Linear where ``hidden`` is given."""
    if hidden is None:
        return nn.Linear(width, out)
    middle: list[nn.Module] = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(nn.Linear(width, hidden), *middle, nn.ReLU(inplace=True), nn.Linear(hidden, out))


Module = TypeVar("Module", bound=nn.Module)


def freeze(module: Module) -> Module:
    """Take ``module``'s parameters out of the training."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module


@torch.no_grad()
def update_average(average: Iterable[nn.Parameter], current: Iterable[nn.Parameter], momentum: float) -> None:
    """average <- momentum x average + (1 - momentum) x current, parameter by parameter; buffers are left alone."""
    torch._foreach_lerp_([p.data for p in average], [p.data for p in current], 1 - momentum)


class Queue(nn.Module):
    """The last ``length`` keys, first in, first out (He et al., arXiv 1911.05722).

    Buffers: ``keys`` float32 (length, dim), rows of norm 1, random at first; ``position`` int64 (1,), where the next keys go.
    """

    keys: Tensor
    position: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("position", torch.zeros(1, dtype=torch.long))
        # The host's copy of the position, so that a step needs no device synchronisation; the buffer serves checkpoints.
        self._next = 0

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        self._next = int(self.position)

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest rows by ``keys`` (n, dim), where n divides the length."""
        self.keys[self._next : self._next + len(keys)] = keys
        self._next = (self._next + len(keys)) % len(self.keys)
        self.position.fill_(self._next)


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Without autocast on the device of ``like``: similarities divided by small temperatures need more than bfloat16's three digits."""
    return torch.autocast(like.device.type, enabled=False)


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE with one positive and shared negatives (van den Oord et al., arXiv 1807.03748; He et al., arXiv 1911.05722, eq. 1).

    Parameters
    ----------
    query, key
        float32 (B, D), L2-normalised; row i of ``key`` is the positive of row i of ``query``.
    negatives
        float32 (K, D).
    temperature
        Divides all similarities.

    Returns
    -------
    Mean over the batch, a scalar.
    """
    with full_precision(query):
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Mean over the rows of two (B, D) of the cosine of the angle between them, a float32 scalar."""
    with full_precision(first):
        return F.cosine_similarity(first.float(), second.float()).mean()
