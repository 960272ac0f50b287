"""Norms and cosines of the gradients of a method's loss terms: which term steers, and whether they pull the same way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import combinations

import torch
from torch import Tensor

from pretrain.methods import Method
from pretrain.methods.base import Place


def gradient_numbers(
    method: Method, views: Sequence[Tensor], index: Tensor, place: Place, autocast: AbstractContextManager[object]
) -> dict[str, float]:
    """``gradients/TERM`` for each loss term: the norm of its gradient by all trained parameters; ``gradients/TERM.TERM``: the cosine of
    two of them.

    It is measured on a copy: running statistics, the queue and the random numbers of ``method`` stay as they are.

    Parameters
    ----------
    views
        Each float32 (b, 3, S, S), as a step gets them.
    index
        int64 (b,): positions of the images in the training set.
    autocast
        What a step's forward pass runs in.
    """
    copied = copy.deepcopy(method).train()
    # accelerate puts a forward of its own before the class's, which would be that of the original.
    copied.__dict__.pop("forward", None)
    copied.zero_grad()
    devices = [views[0].device] if views[0].is_cuda else []
    with torch.random.fork_rng(devices=devices):
        with autocast:
            losses = copied(list(views), index, place)
        names = list(losses)
        trained = [parameter for parameter in copied.parameters() if parameter.requires_grad]
        rows = []
        for number, name in enumerate(names):
            found = torch.autograd.grad(losses[name], trained, retain_graph=number + 1 < len(names), allow_unused=True)
            whole = (torch.zeros_like(one) if grad is None else grad for one, grad in zip(trained, found, strict=True))
            rows.append(torch.cat([grad.float().flatten() for grad in whole]))
    norms = [float(row.norm()) for row in rows]
    numbers = {f"gradients/{name}": norm for name, norm in zip(names, norms, strict=True)}
    for one, other in combinations(range(len(names)), 2):
        if norms[one] > 0 and norms[other] > 0:
            cosine = float(rows[one] @ rows[other]) / (norms[one] * norms[other])
            numbers[f"gradients/{names[one]}.{names[other]}"] = cosine
    return numbers
