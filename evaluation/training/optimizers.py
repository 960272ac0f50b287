"""Optimizers and learning-rate schedules: typed settings over timm's and torch's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import torch
from timm.optim.lars import Lars
from torch import nn

from zoo.errors import UserError
from zoo.ranges import POSITIVE, SHARE, Range


class OptimizerName(StrEnum):
    sgd = "sgd"
    adamw = "adamw"
    lars = "lars"


class ScheduleName(StrEnum):
    cosine = "cosine"
    step = "step"
    constant = "constant"
    restarts = "restarts"
    wave = "wave"


class ScheduleUnit(StrEnum):
    step = "step"
    epoch = "epoch"


@dataclass
class OptimizerSettings:
    """Attributes
    ----------
    name
        ``sgd``, ``adamw``, or ``lars`` (You et al., arXiv 1708.03888; timm's).
    lr, lr_per_256
        Exactly one of them: the peak rate as it is, or the rate per 256 images of the global batch.
    momentum, nesterov
        For sgd and lars.
    betas
        For adamw.
    weight_decay
        Decoupled for adamw, added to the gradient for the others.
    decay_all
        Whether biases and normalisation parameters decay too (as MoCo and SimSiam publish); with lars the parameters that do not
        decay are not rescaled either.
    """

    name: OptimizerName = OptimizerName.sgd
    lr: Annotated[float | None, Range(0)] = None
    lr_per_256: Annotated[float | None, Range(0)] = None
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    nesterov: bool = False
    betas: Annotated[list[float], Range(0, 1, below=True)] = field(default_factory=lambda: [0.9, 0.999])
    weight_decay: Annotated[float, Range(0)] = 1e-4
    decay_all: bool = True

    def peak_lr(self, batch: int) -> float:
        """The peak learning rate at a global ``batch``. Raises UserError unless exactly one of the two forms is given."""
        if (self.lr is None) == (self.lr_per_256 is None):
            raise UserError("optimizer: give either 'lr' (as it is) or 'lr_per_256' (scaled by batch / 256), and not both")
        return self.lr if self.lr is not None else float(self.lr_per_256 or 0.0) * batch / 256


@dataclass
class ScheduleSettings:
    """Attributes
    ----------
    name
        ``cosine`` from the peak to ``final_lr``, ``step`` (times ``gamma`` at each milestone), ``constant``, ``restarts`` (a cosine from
        the peak to 0 every ``period`` epochs: Loshchilov and Hutter, arXiv 1608.03983) or ``wave`` (down to 0 in ``period`` epochs and up
        again: torch's ``CosineAnnealingLR`` beyond its end, stepped before each epoch, so that the first one is already a step down).
    warmup_epochs
        Linear warm-up from ``warmup_start`` (a share of the peak) to the peak.
    final_lr
        Where the cosine ends, as a share of the peak.
    milestones
        Epochs, counted from 0, from which the rate is multiplied by ``gamma``.
    period
        Epochs, for ``restarts`` and ``wave``.
    unit
        Whether the rate changes at every ``step`` or once an ``epoch``.
    """

    name: ScheduleName = ScheduleName.cosine
    warmup_epochs: Annotated[float, Range(0)] = 0.0
    warmup_start: Annotated[float, SHARE] = 0.0
    final_lr: Annotated[float, SHARE] = 0.0
    milestones: Annotated[list[int], Range(0)] = field(default_factory=list)
    gamma: Annotated[float, Range(0)] = 0.1
    period: Annotated[float, POSITIVE] = 10.0
    unit: ScheduleUnit = ScheduleUnit.step


# Marks an optimizer's group whose rate does not follow the schedule; kept in its state dict.
_CONSTANT = "constant_lr"


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes
    ----------
    parameters
        Those that need no gradient are left out of the training.
    constant_lr
        Whether their rate stays at the peak, whatever the schedule does (SimSiam's predictor: Chen and He, arXiv 2011.10566, section 4.2).
    peak_lr
        Their own rate at the schedule's peak; None: the optimizer's.
    """

    parameters: list[nn.Parameter]
    constant_lr: bool = False
    peak_lr: float | None = None


def _split_by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in parameters if p.requires_grad]
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def make_optimizer(groups: list[ParameterGroup], settings: OptimizerSettings, peak_lr: float) -> torch.optim.Optimizer:
    """An optimizer over parameter groups; parameters that need no gradient are left out.

    For parameters that are on a GPU it is torch's fused one, which updates all of them in a few kernels; timm's LARS has none.

    Parameters
    ----------
    groups
        The parameters, in the groups that their method declares.
    peak_lr
        Learning rate at the schedule's peak (:meth:`OptimizerSettings.peak_lr`).
    """
    split: list[dict[str, Any]] = []
    for group in groups:
        if settings.decay_all:
            parts = [{"params": [p for p in group.parameters if p.requires_grad], "weight_decay": settings.weight_decay}]
        else:
            parts = _split_by_decay(group.parameters, settings.weight_decay)
        rate = peak_lr if group.peak_lr is None else group.peak_lr
        split.extend({**part, "lr": rate, _CONSTANT: group.constant_lr} for part in parts if part["params"])
    # Not false for the CPU, where torch's own choice has always been made.
    fused = True if all(parameter.is_cuda for part in split for parameter in part["params"]) else None
    if settings.name is OptimizerName.sgd:
        return torch.optim.SGD(split, lr=peak_lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused)
    if settings.name is OptimizerName.adamw:
        first, second = settings.betas
        return torch.optim.AdamW(split, lr=peak_lr, betas=(first, second), fused=fused)
    return Lars(split, lr=peak_lr, momentum=settings.momentum, nesterov=settings.nesterov)


class Schedule:
    """The learning rate as a function of the global step alone, so that resuming needs no state.

    Parameters
    ----------
    optimizer
        Its groups' rates at this moment are their peaks.
    settings
        The schedule.
    epochs, steps_per_epoch
        The length of the run. A cosine runs over what the warm-up leaves, so that it ends with the run.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, settings: ScheduleSettings, *, epochs: int, steps_per_epoch: int) -> None:
        self.optimizer, self.settings, self.epochs, self.steps_per_epoch = optimizer, settings, epochs, steps_per_epoch
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]

    def factor(self, step: int) -> float:
        """The share of the peak rate at global step ``step`` (counted from 0)."""
        settings = self.settings
        time = step / self.steps_per_epoch  # epochs
        if settings.unit is ScheduleUnit.epoch:
            time = float(step // self.steps_per_epoch)
        if time < settings.warmup_epochs:
            return settings.warmup_start + (1 - settings.warmup_start) * time / settings.warmup_epochs
        if settings.name is ScheduleName.cosine:
            progress = (time - settings.warmup_epochs) / max(self.epochs - settings.warmup_epochs, 1e-9)
            return settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        if settings.name is ScheduleName.step:
            return settings.gamma ** sum(milestone <= time for milestone in settings.milestones)
        if settings.name is ScheduleName.restarts:
            return (1 + math.cos(math.pi * (time % settings.period) / settings.period)) / 2
        if settings.name is ScheduleName.wave:
            return (1 + math.cos(math.pi * (time + 1) / settings.period)) / 2
        return 1.0

    def set(self, step: int) -> None:
        """Set the optimizer's rates for global step ``step``."""
        factor = self.factor(step)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak if group.get(_CONSTANT) else peak * factor
