"""Evaluation transforms: resize the short side, crop the centre, normalise.

The decoded image stays uint8 until the last step, so that batches cross to the device as bytes and are normalised there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.models.model import Model

Interpolation = Literal["bilinear", "bicubic"]
# How a network that was trained here expects its test images resized: as torchvision's RandomResizedCrop made the training views.
INTERPOLATION: Interpolation = "bilinear"
# Data sets of images up to this side (CIFAR, Tiny-ImageNet, STL-10) are seen whole; larger ones by the field's crop of 224 from 256.
_WHOLE_IMAGE_SIDE = 96
_CROP_PCT = 0.875
_PIL_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class EvalTransform:
    """How an image becomes the network's input.

    ``from_pil`` equals torchvision's ``Resize(resize, interpolation)``, ``CenterCrop(crop)``, ``ToTensor()``, ``Normalize(mean, std)``
    bit for bit on the CPU. ``from_pixels`` is the same for a batch in memory; where it has to resize, its integer arithmetic differs
    from Pillow's by one or two of 255 levels in about one value of a hundred.

    Attributes
    ----------
    resize
        Length of the short side after resizing, in pixels. An image that has it already is not touched.
    crop
        Side of the centre crop, in pixels; at most ``resize``.
    interpolation
        ``"bilinear"`` or ``"bicubic"``, antialiased.
    mean, std
        Per channel, in the order of ``channels``, of pixels in [0, 1].
    channels
        The order in which the channels are normalised and reach the network: ``"rgb"``, or ``"bgr"`` for networks from OpenCV or Caffe.
    """

    resize: int
    crop: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"a crop of {self.crop} does not fit into a short side of {self.resize}")

    def from_pil(self, image: Image.Image) -> Tensor:
        """float32 (3, crop, crop) of an RGB image."""
        return self.normalise(torch.from_numpy(self.crop_pil(image))[None])[0]

    def from_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """float32 (B, 3, crop, crop) of uint8 (B, H, W, 3)."""
        return self.normalise(self.crop_pixels(pixels))

    def crop_pil(self, image: Image.Image) -> NDArray[np.uint8]:
        """uint8 (crop, crop, 3): an RGB image, resized and cropped."""
        width, height = image.size
        size, (top, left) = self.place(height, width)
        if size != (height, width):
            image = image.resize((size[1], size[0]), _PIL_FILTERS[self.interpolation])
        # A copy: what PIL hands out is read-only, and torch wants to own its memory.
        return np.array(image.crop((left, top, left + self.crop, top + self.crop)))

    def crop_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (B, crop, crop, 3): a batch of RGB images (B, H, W, 3), resized and cropped on the CPU."""
        images = torch.from_numpy(np.require(pixels, requirements="W"))
        height, width = pixels.shape[1:3]
        size, (top, left) = self.place(height, width)
        if size != (height, width):
            # In uint8, whose fixed-point arithmetic is nearly Pillow's; float32 differs in every fifth value.
            planes = functional.interpolate(images.permute(0, 3, 1, 2), size=size, mode=self.interpolation, antialias=True)
            images = planes.permute(0, 2, 3, 1)
        return images[:, top : top + self.crop, left : left + self.crop]

    def place(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of an image after resizing, and the top and left of the crop in it, in pixels."""
        size = _resized(height, width, self.resize)
        return size, _centre(size, self.crop)

    def normalise(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) of uint8 (B, H, W, 3), on the device of ``images``."""
        return normalise(images.flip(3) if self.channels == "bgr" else images, self.mean, self.std)

    def describe(self) -> dict[str, Any]:
        """The settings as a result records them."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": self.channels,
        }


def own_transform(model: Model, image_size: int | None = None) -> EvalTransform:
    """How a model's images are tested, as itself says: timm's evaluation transform of the same settings.

    Parameters
    ----------
    image_size
        Side in pixels in place of the model's own; the short side is then resized in proportion.

    Raises
    ------
    UserError
        The model does not say it.
    """
    side = image_size or model.input_size
    if side is None or model.mean is None or model.std is None or model.crop_pct is None or model.interpolation is None:
        raise UserError(f"'{model.name}' does not say how its images are resized and normalised, so no image can be prepared for it")
    if model.interpolation not in _PIL_FILTERS:
        raise UserError(f"'{model.name}' wants images resized by '{model.interpolation}', and known are {' and '.join(_PIL_FILTERS)}")
    resize = max(side, math.floor(side / model.crop_pct))
    return EvalTransform(resize, side, cast(Interpolation, model.interpolation), model.mean, model.std, model.channels)


def crop_pct_of(resize: int, crop: int) -> float:
    """``crop_pct`` by which :func:`own_transform`, and timm, find ``resize`` again: crop / resize, which may round to the next number."""
    part = crop / resize
    return part if math.floor(crop / part) == resize else math.nextafter(part, 0)


def usual_crop_pct(side: int) -> float:
    """Part of the side that the centre crop keeps, for a network trained at ``side`` pixels of which nothing else is known."""
    return 1.0 if side <= _WHOLE_IMAGE_SIDE else _CROP_PCT


def normalise(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """float32 (B, 3, H, W) of uint8 (B, H, W, 3), on the device of ``images``; ``mean`` and ``std`` are of pixels in [0, 1]."""
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return planes.sub_(_per_channel(tuple(mean), images.device)).div_(_per_channel(tuple(std), images.device))


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 (C, 1, 1), brought to the device once: each time would make the host wait for it."""
    return torch.tensor(values, device=device)[:, None, None]


def _resized(height: int, width: int, short: int) -> tuple[int, int]:
    """Height and width once the short side is ``short``; the long side is rounded down, as torchvision does."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def _centre(size: tuple[int, int], crop: int) -> tuple[int, int]:
    """Top and left of the centre crop; halves are rounded to even, as torchvision does."""
    return round((size[0] - crop) / 2), round((size[1] - crop) / 2)
