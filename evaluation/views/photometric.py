"""Photometric augmentation of a whole batch on the device, each sample with its own parameters.

Images are float32 (B, 3, H, W) in [0, 1], contiguous; every function works in place. Each operation is the one of
``torchvision.transforms.v2.functional`` on float tensors; see ``docs/views.md`` for the measured differences, Pillow's among them.

Which samples an operation touches is known on the host, so nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.views.parameters import CONTRAST, HUE, SATURATION, Photometric, to_device

# ITU-R BT.601 luma; its weights sum to one, so that a gray pixel keeps its value.
LUMA = (0.299, 0.587, 0.114)
SOLARIZE_THRESHOLD = 0.5
# A CPU takes so many values through all operations at a time, for each of its threads: they stay in its cache, and so do copies of them.
_VALUES_IN_CACHE = 1 << 20
# The Gaussian is cut off at this many standard deviations.
BLUR_CUTOFF = 4.0
# Rows of a band of the blur's matrix: narrow enough to leave out most zeros, and wide enough to make few products.
_BLUR_BAND = 32
# Chroma below this is rounding error: the pixel is gray and has no hue.
_SMALLEST_CHROMA = 1e-12


def apply_photometric_(images: Tensor, parameters: Photometric, largest_sigma: float) -> Tensor:
    """Jitter, channel permutation, grayscale, blur, solarize and invert, in this order, each on the samples that ``parameters`` names.

    Parameters
    ----------
    largest_sigma
        The upper end of the blur's range in pixels. It fixes the kernel's size, so that a sample's blur does not depend on its batch.
    """
    with torch.autocast(images.device.type, enabled=False):
        for rows in _slices(images):
            _apply_(images[rows], parameters.take(np.arange(rows.start, rows.stop)), largest_sigma)
    return images


def _slices(images: Tensor) -> Iterator[slice]:
    """The samples that are augmented together."""
    together = len(images)
    if together and images.device.type == "cpu":
        together = max(1, torch.get_num_threads() * _VALUES_IN_CACHE // images[0].numel())
    for start in range(0, len(images), max(1, together)):
        yield slice(start, min(start + together, len(images)))


def _apply_(images: Tensor, parameters: Photometric, largest_sigma: float) -> None:
    jitter_(images, parameters)
    permute_channels_(images, parameters.channels)
    grayscale_(images, parameters.grayscale)
    blur_(images, parameters.sigma, largest_sigma)
    solarize_(images, parameters.solarize)
    invert_(images, parameters.invert)


def jitter_(images: Tensor, parameters: Photometric) -> Tensor:
    """Brightness, contrast, saturation and hue of the flagged samples, in each sample's own order.

    Samples are taken in four groups, by the place of hue in their order: a group shifts hue in one step and blends in the other three.
    """
    for place in range(4):
        members = np.flatnonzero(parameters.jitter & (parameters.order[:, place] == HUE))
        if len(members):
            with _taken(images, members) as group:
                _jitter_group_(group.view(len(members), 3, -1), parameters.take(members), place)
    return images


@contextmanager
def _taken(images: Tensor, members: NDArray[np.int64]) -> Iterator[Tensor]:
    """The samples at the places ``members``, of which each is there once, to be changed; then they are put back."""
    if len(members) == len(images):
        yield images
        return
    rows = to_device(members, images.device)
    group = images.index_select(0, rows)
    yield group
    images.index_copy_(0, rows, group)


def _jitter_group_(pixels: Tensor, parameters: Photometric, hue_place: int) -> None:
    """Jitter pixels (B, 3, N) of samples whose order all has hue at ``hue_place``."""
    coefficients = to_device(_blend_coefficients(parameters), pixels.device)
    turns = parameters.factors[:, HUE]
    for place in range(4):
        if place != hue_place:
            blend_(pixels, *coefficients[place])
        elif turns.any():
            shift_hue_(pixels, to_device(turns.astype(np.float32), pixels.device))


def _blend_coefficients(parameters: Photometric) -> NDArray[np.float32]:
    """The arguments of :func:`blend_` at each place of the order: float32 (4, 3, B)."""
    order = parameters.order.T
    factor = np.take_along_axis(parameters.factors, parameters.order, axis=1).T
    luma, mean = np.where(order == SATURATION, 1.0 - factor, 0.0), np.where(order == CONTRAST, 1.0 - factor, 0.0)
    return np.stack([factor, luma, mean], axis=1).astype(np.float32)


def blend_(pixels: Tensor, factor: Tensor, from_luma: Tensor, from_mean: Tensor) -> Tensor:
    """``factor * pixel + from_luma * its luma + from_mean * the image's mean luma``, clamped to [0, 1], of pixels (B, 3, N).

    Brightness, contrast and saturation in one: each blends the image with a reference, which is black, the mean luma, or the luma.
    The coefficients are float32 (B,), so that samples whose turn it is for different ones share a pass.
    """
    luma = torch.bmm(_luma_weights(pixels.device).expand(pixels.shape[0], 1, 3), pixels)
    offset = luma.mean(dim=2, keepdim=True).mul_(from_mean[:, None, None])
    luma.mul_(from_luma[:, None, None]).add_(offset)
    return pixels.mul_(factor[:, None, None]).add_(luma).clamp_(0.0, 1.0)


def shift_hue_(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of pixels (B, 3, N) by ``turns`` (B,) of the colour circle, with value and saturation of HSV kept.

    Let V be a pixel's largest channel and C its chroma (V minus the smallest). With the hue h in sextants, red at 0, in (-3, 3], HSV says

        |h| = 2 + (G + B - R - V) / C,    h has the sign of G - B,

    and a channel whose own hue is c (0, 2, -2) equals V - C * clamp(2 - | |h - c| - 3 |, 0, 1) as long as |h - c| <= 6. This is the
    textbook conversion to HSV and back without its case distinctions, which cost more than all the arithmetic.
    """
    red, green, blue = pixels.unbind(1)
    buffer = torch.maximum(green, blue)
    value = torch.maximum(red, buffer)
    chroma = torch.minimum(green, blue)
    torch.sub(value, torch.minimum(red, chroma, out=chroma), out=chroma)
    hue = torch.add(green, blue).sub_(red).sub_(value).div_(torch.clamp(chroma, min=_SMALLEST_CHROMA, out=buffer)).add_(2.0)
    hue.copysign_(torch.sub(green, blue, out=buffer)).add_(turns.mul(6.0)[:, None])
    hue.sub_(torch.mul(hue, 1 / 6, out=buffer).round_(), alpha=6.0)
    for channel, own_hue in enumerate((0.0, 2.0, -2.0)):
        share = torch.sub(hue, own_hue, out=buffer).abs_().sub_(3.0).abs_().neg_().add_(2.0).clamp_(0.0, 1.0)
        torch.addcmul(value, chroma, share, value=-1.0, out=pixels[:, channel])
    return pixels


def permute_channels_(images: Tensor, channels: NDArray[np.int64]) -> Tensor:
    """Channel k of sample i becomes its channel ``channels[i, k]`` (int64 (B, 3))."""
    moved = np.flatnonzero((channels != np.arange(3)).any(axis=1))
    if len(moved):
        planes = images.view(-1, *images.shape[2:])
        sources = to_device((3 * moved[:, None] + channels[moved]).ravel(), images.device)
        targets = to_device((3 * moved[:, None] + np.arange(3)).ravel(), images.device)
        planes.index_copy_(0, targets, planes.index_select(0, sources))
    return images


def grayscale_(images: Tensor, flags: NDArray[np.bool_]) -> Tensor:
    """The luma of the flagged samples (bool (B,)) in all three channels."""
    if flags.any():
        rows = to_device(np.flatnonzero(flags), images.device)
        pixels = images.view(images.shape[0], 3, -1)
        luma = torch.bmm(_luma_weights(images.device).expand(len(rows), 1, 3), pixels.index_select(0, rows))
        pixels.index_copy_(0, rows, luma.expand(-1, 3, -1))
    return images


def blur_(images: Tensor, sigma: NDArray[np.float64], largest_sigma: float) -> Tensor:
    """Gaussian blur of the samples with ``sigma`` (B,; pixels) above 0; edges are reflected without repeating the border pixel.

    The kernel reaches ``BLUR_CUTOFF * largest_sigma`` pixels, at most to the image's other edge. Along each axis it is applied as a matrix
    per sample, so that each sample's own sigma costs nothing. The matrix is zero away from its diagonal: it is cut into bands of
    ``_BLUR_BAND`` rows, each with the columns that it reaches.
    """
    blurred = np.flatnonzero(sigma > 0.0)
    if len(blurred) == 0:
        return images
    batch, channels, height, width = len(blurred), *images.shape[1:]
    across = _blur_bands(sigma[blurred], width, largest_sigma, images.device)
    down = across if height == width else _blur_bands(sigma[blurred], height, largest_sigma, images.device)
    half = torch.empty((batch, channels, height, width), device=images.device)
    with _taken(images, blurred) as chosen:
        for target, source, weights in across:
            torch.bmm(chosen.view(batch, -1, width)[:, :, source], weights.transpose(1, 2), out=half.view(batch, -1, width)[:, :, target])
        for target, source, weights in down:
            # A product that broadcasts the weights over the channels would first copy them.
            for channel in range(channels):
                torch.bmm(weights, half[:, channel, source], out=chosen[:, channel, target])
    return images


def _blur_bands(sigma: NDArray[np.float64], size: int, largest_sigma: float, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """Pixels, the pixels that enter them, and with which weights: float32 (B, pixels, pixels that enter)."""
    reach = min(math.ceil(BLUR_CUTOFF * largest_sigma), size - 1)
    taps = np.exp(-0.5 * np.square(np.arange(reach + 1) / sigma[:, None]))
    taps /= taps[:, :1] + 2 * taps[:, 1:].sum(axis=1, keepdims=True)
    weights = to_device(taps.astype(np.float32), device)
    return [
        (target, source, (weights @ counts.flatten(1)).view(-1, *counts.shape[1:]))
        for target, source, counts in _reflected_taps(size, reach, device)
    ]


@lru_cache(maxsize=16)
def _reflected_taps(size: int, reach: int, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """Bands of pixels i, the pixels j that enter them, and how often j is met at distance k from i, beyond the edges by reflection:
    float32 (reach + 1, i, j).
    """
    counts = np.zeros((reach + 1, size, size), dtype=np.float32)
    pixel = np.arange(size)
    for offset in range(-reach, reach + 1):
        met = np.abs(pixel + offset)
        np.add.at(counts[abs(offset)], (pixel, np.minimum(met, 2 * (size - 1) - met)), 1.0)
    bands = []
    for start in range(0, size, _BLUR_BAND):
        target = slice(start, min(start + _BLUR_BAND, size))
        source = slice(max(0, target.start - reach), min(target.stop + reach, size))
        bands.append((target, source, to_device(counts[:, target, source], device)))
    return bands


def solarize_(images: Tensor, flags: NDArray[np.bool_]) -> Tensor:
    """Invert the values of the flagged samples (bool (B,)) that are at least one half."""
    if flags.any():
        rows = to_device(np.flatnonzero(flags), images.device)
        chosen = images.index_select(0, rows)
        images.index_copy_(0, rows, torch.where(chosen >= SOLARIZE_THRESHOLD, 1.0 - chosen, chosen))
    return images


def invert_(images: Tensor, flags: NDArray[np.bool_]) -> Tensor:
    """The negatives of the flagged samples (bool (B,))."""
    if flags.any():
        rows = to_device(np.flatnonzero(flags), images.device)
        images.index_copy_(0, rows, 1.0 - images.index_select(0, rows))
    return images


def normalise_(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract ``mean`` and divide by ``std`` (each (3,), in the units of [0, 1])."""
    return images.sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))


@lru_cache(maxsize=4)
def _luma_weights(device: torch.device) -> Tensor:
    return torch.tensor(LUMA, device=device).view(1, 1, 3)
