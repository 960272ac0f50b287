"""Every random choice of a view, drawn on the host at the sample's own address (:mod:`zoo.randomness`).

A sample's parameters depend on the seed, its index, the epoch and the view's number alone: not on the batch it is in, the worker that
prepares it, or the backend that applies them. Each choice has a fixed column, so that a switch turned on or off leaves the others as
they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.views.samplers import CropSampler
from evaluation.views.settings import ViewSettings
from zoo.randomness import uniforms

CROP_PURPOSE = "crop"
PHOTOMETRIC_PURPOSE = "photometric"

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
JITTER_ORDERS = np.array(list(permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE))))
CHANNEL_ORDERS = np.array(list(permutations(range(3))))


@dataclass(frozen=True)
class Crops:
    """Geometry of one view of B samples: ``boxes`` int64 (B, 4: top, left, height, width), ``flip`` and ``vertical_flip`` bool (B,)."""

    boxes: NDArray[np.int64]
    flip: NDArray[np.bool_]
    vertical_flip: NDArray[np.bool_]


@dataclass(frozen=True)
class Photometric:
    """Colours and blur of one view of B samples.

    Attributes
    ----------
    jitter
        bool (B,): whether the sample's colours are jittered.
    factors
        float64 (B, 4): factors of brightness, contrast and saturation, and the hue's shift in turns.
    order
        int64 (B, 4): which of the four (columns of ``factors``) comes first, second, third, fourth.
    channels
        int64 (B, 3): which channel becomes R, G, B.
    grayscale, solarize, invert
        bool (B,).
    sigma
        float64 (B,): the blur's standard deviation in pixels; 0 for no blur.
    """

    jitter: NDArray[np.bool_]
    factors: NDArray[np.float64]
    order: NDArray[np.int64]
    channels: NDArray[np.int64]
    grayscale: NDArray[np.bool_]
    sigma: NDArray[np.float64]
    solarize: NDArray[np.bool_]
    invert: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Photometric:
        """The parameters of the samples at ``rows``, in that order."""
        return Photometric(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_crops(
    sampler: CropSampler,
    settings: ViewSettings,
    sizes: NDArray[np.int64],
    index: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    view: int,
    boxes: NDArray[np.float32] | None = None,
) -> Crops:
    """Crops and flips of view number ``view`` for the samples ``index`` (B,), whose images have ``sizes`` (B, 2: height, width).

    ``boxes`` are the survey's of these samples, float32 (B, 4), where there are any.
    """
    numbers = uniforms(seed, CROP_PURPOSE, 2 + sampler.draws, index=index, epoch=epoch, view=view)
    return Crops(
        boxes=sampler(sizes, numbers[:, 2:], boxes),
        flip=numbers[:, 0] < settings.flip,
        vertical_flip=numbers[:, 1] < settings.vertical_flip,
    )


def draw_photometric(settings: ViewSettings, index: NDArray[np.int64], *, seed: int, epoch: int, view: int) -> Photometric:
    """Photometric parameters of view number ``view`` for the samples ``index`` (B,)."""
    u = uniforms(seed, PHOTOMETRIC_PURPOSE, 13, index=index, epoch=epoch, view=view)
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    factors = [_between(u[:, 1 + k], max(0.0, 1.0 - x), 1.0 + x) for k, x in enumerate(strengths)]
    factors.append(_between(u[:, 4], -settings.hue, settings.hue))
    permuted = u[:, 6] < settings.channel_permutation
    return Photometric(
        jitter=u[:, 0] < settings.jitter,
        factors=np.stack(factors, axis=1),
        order=JITTER_ORDERS[_choice(u[:, 5], math.factorial(4))],
        channels=CHANNEL_ORDERS[np.where(permuted, _choice(u[:, 7], math.factorial(3)), 0)],
        grayscale=u[:, 8] < settings.grayscale,
        sigma=np.where(u[:, 9] < settings.blur, _between(u[:, 10], *settings.blur_sigma), 0.0),
        solarize=u[:, 11] < settings.solarize,
        invert=u[:, 12] < settings.invert,
    )


def _between(u: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return low + (high - low) * u


def _choice(u: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.floor(u * count).astype(np.int64)


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """A host array on ``device``; to a GPU the copy runs beside the host's further work."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
