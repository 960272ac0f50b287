"""What a recipe leaves to the device it runs on: worked out once, before the first step, and written into the run's recipe.

A resumed run reads the values from there, so that a change of machine does not change them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.training.kernels import resolve_channels_last, resolve_precision, training_device
from pretrain.settings import PrecisionName

if TYPE_CHECKING:
    from omegaconf import DictConfig


def with_device_choices(config: DictConfig) -> DictConfig:
    """``config`` with the precision and the memory layout that ``auto`` stands for here."""
    device = training_device(str(config.device.value))
    config = config.copy()
    config.channels_last = resolve_channels_last(config.channels_last, device)
    config.precision = PrecisionName(resolve_precision(str(config.precision.value), device))
    return config
