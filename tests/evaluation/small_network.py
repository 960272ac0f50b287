"""A small network, small images and their transform, for tests of extraction in one and in several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from zoo.data import ArrayImages, FileImages, Level
from zoo.data.base import FileEntry
from zoo.models.transforms import EvalTransform

TRANSFORM = EvalTransform(16, 16, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


class Network(nn.Module):
    """Convolution, batch norm, dropout, mean: every kind of layer whose training mode changes what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Dropout(0.5)
        generator = torch.Generator().manual_seed(0)
        for tensor in (*self.parameters(), self.norm.running_mean, self.norm.running_var):
            assert tensor is not None
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.drop(torch.relu(self.norm(self.conv(images)))).mean((2, 3))
        return result


def pictures(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def in_memory(pixels: np.ndarray) -> ArrayImages:
    return ArrayImages("toy", "test", pixels, {"class": Level(np.arange(len(pixels)), tuple(map(str, range(len(pixels)))))})


def in_files(pixels: np.ndarray, folder: Path) -> FileImages:
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02}.png")
    return FileImages("toy", "test", [FileEntry(str(folder / f"{index:02}.png")) for index in range(len(pixels))], {})


class Spoiled(Network):
    """Gives NaN for images whose first pixel is black."""

    def forward(self, images: Tensor) -> Tensor:
        black = (images[:, :, 0, 0] == images.new_tensor([-2.5, -1.6, -1.0])).all(1)
        return super().forward(images).masked_fill(black[:, None], torch.nan)
