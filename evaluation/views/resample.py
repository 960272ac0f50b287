"""From boxes to pixels on the device: crop, flip and resize as two matrices per sample.

Resizing is linear and separable, so the crop of one image is ``V @ image @ H.T``: row i of ``V`` (``H``) holds the weights with which
the image's rows (columns) enter row (column) i of the view. A row's weights are zero outside the crop and sum to one, which is what
cropping first and resizing after means; a flip reverses the rows of ``H``. A whole batch, each sample with its own box, is two batched
products.

Most of those weights are zero. A GPU, and a CPU where images are small, do not notice; where they are large a CPU resizes one crop after
the other by torch's own kernel, which leaves the zeros out. The two differ by rounding alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Half-width of each kernel, in pixels of the coarser grid.
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
# Keys' parameter, as Pillow and torch's antialiased resize have it (Keys, "Cubic convolution interpolation", 1981).
_CUBIC_A = -0.5
# Bytes: as torch aligns its own memory, for the processor's vectors.
_ALIGNMENT = 64
# Up to so many weights of one axis, times the image's other side, matrices are the faster way on a CPU: views of 48 pixels from images of
# 48, of 32 from 64.
_LARGEST_MATRICES = 1 << 17


def to_planes(images: Tensor) -> Tensor:
    """uint8 images (B, H, W, 3) as float32 planes (B, 3, H, W), values 0 .. 255."""
    batch, height, width, channels = images.shape
    return empty((batch, channels, height, width), images.device).copy_(images.permute(0, 3, 1, 2))


def empty(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """float32 memory for a batch.

    On a CPU it comes from NumPy, which asks Linux for large pages, as torch does not: the first touch of some ten thousand small ones takes
    longer than filling them. What is as large as that is given back to the system each time, and so is new for each batch.
    """
    if device.type != "cpu":
        return torch.empty(shape, device=device)
    count, spare = math.prod(shape), _ALIGNMENT // 4
    memory = torch.from_numpy(np.empty(count + spare, dtype=np.float32))
    start = -memory.data_ptr() % _ALIGNMENT // 4
    return memory[start : start + count].view(shape)


def resample(
    planes: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str = "bilinear", vertical_flip: Tensor | None = None
) -> Tensor:
    """Cut each image's box and resize it, with antialiasing.

    Equals ``torchvision.transforms.functional.resized_crop(..., antialias=True)`` on float tensors, followed by the flips
    and (for bicubic, which overshoots) a clamp.

    Parameters
    ----------
    planes
        float32 (B, 3, H, W), values 0 .. 255 (:func:`to_planes`).
    boxes
        int64 (B, 4): top, left, height, width, inside the image.
    flip, vertical_flip
        bool (B,): horizontal flips; vertical ones, None for none.
    size
        Side S of the views in pixels.
    interpolation
        ``bilinear`` or ``bicubic``.

    Returns
    -------
    float32 (B, 3, S, S), values in [0, 1], contiguous.
    """
    height, width = planes.shape[2:]
    if planes.device.type == "cpu" and height * width * size > _LARGEST_MATRICES:
        return _one_by_one(planes, boxes, flip, size, interpolation, vertical_flip)
    top, left, box_height, box_width = boxes.unbind(1)
    vertical = interpolation_matrix(top, box_height, height, size, interpolation, vertical_flip)
    horizontal = interpolation_matrix(left, box_width, width, size, interpolation, flip).mul_(1 / 255)
    return transform_axes(planes, vertical, horizontal).clamp_(0.0, 1.0)


def _one_by_one(
    planes: Tensor, boxes: Tensor, flip: Tensor, size: int, interpolation: str, vertical_flip: Tensor | None
) -> Tensor:
    """:func:`resample` with torch's kernel, which takes one size of crop at a time."""
    result = empty((*planes.shape[:2], size, size), planes.device)
    upside_down = torch.zeros_like(flip) if vertical_flip is None else vertical_flip
    turns = torch.stack([upside_down, flip], dim=1).tolist()
    with torch.autocast(planes.device.type, enabled=False):
        for row, ((top, left, height, width), turned) in enumerate(zip(boxes.tolist(), turns, strict=True)):
            crop = planes[row : row + 1, :, top : top + height, left : left + width]
            view = functional.interpolate(crop, size=(size, size), mode=interpolation, antialias=True)
            torch.mul(view.flip([axis for axis, yes in zip((2, 3), turned, strict=True) if yes]), 1 / 255, out=result[row : row + 1])
    return result.clamp_(0.0, 1.0)


def transform_axes(planes: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """``vertical[i] @ planes[i, c] @ horizontal[i].T`` for each sample i and channel c.

    Parameters
    ----------
    planes
        float32 (B, C, H, W).
    vertical, horizontal
        float32 (B, S, H) and (B, T, W).

    Returns
    -------
    float32 (B, C, S, T), contiguous.
    """
    batch, channels, height, width = planes.shape
    result = empty((batch, channels, vertical.shape[1], horizontal.shape[1]), planes.device)
    # Autocast off: the rounding of pixels must not follow the precision that the model is trained in. A loop over the channels,
    # because a product that broadcasts the vertical matrices over them first copies them, at several times the cost on a CPU.
    with torch.autocast(planes.device.type, enabled=False):
        rows = torch.bmm(planes.view(batch, channels * height, width), horizontal.transpose(1, 2))
        for channel, plane in enumerate(rows.view(batch, channels, height, -1).unbind(1)):
            torch.bmm(vertical, plane, out=result[:, channel])
    return result


def interpolation_matrix(
    start: Tensor, length: Tensor, source: int, size: int, interpolation: str = "bilinear", flip: Tensor | None = None
) -> Tensor:
    """Weights that resize the pixels ``start .. start + length - 1`` of a row of ``source`` pixels to ``size`` pixels.

    Parameters
    ----------
    start, length
        int64 (B,).
    flip
        bool (B,): reverse the result.

    Returns
    -------
    float32 (B, size, source); each row sums to one.
    """
    device = start.device
    step = length.to(torch.float32) / size
    shrink = step.clamp(min=1.0)
    target = torch.arange(size, device=device, dtype=torch.float32)
    if flip is not None:
        target = torch.where(flip[:, None], size - 1 - target, target)
    centres = (target + 0.5) * (step / shrink)[:, None]
    local = torch.arange(source, device=device) - start[:, None]
    inside = (local >= 0) & (local < length[:, None])
    # A pixel outside the crop is put infinitely far away: no kernel reaches it.
    positions = ((local + 0.5) / shrink[:, None]).masked_fill_(~inside, torch.inf)
    distance = torch.sub(positions[:, None, :], centres[:, :, None]).abs_().clamp_(max=SUPPORT[interpolation])
    weights = distance.neg_().add_(1.0) if interpolation == "bilinear" else _cubic(distance)
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel; both of its pieces vanish at a distance of 1, so each is evaluated on its own range and they add up."""
    inner, outer = distance.clamp(max=1.0), distance.clamp_(min=1.0)
    near = ((_CUBIC_A + 2) * inner - (_CUBIC_A + 3)).mul_(inner).mul_(inner).add_(1.0)
    far = ((outer - 5).mul_(outer).add_(8).mul_(outer).sub_(4)).mul_(_CUBIC_A)
    return near.add_(far)
