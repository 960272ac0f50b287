"""An encoder pass: which encoder gets which part of each image, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pretrain.encoder import Encoder
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform

Input = Literal["whole", "centre"]

# How ImageNet is cut for evaluation: short side 256, centre 224; in this proportion at other sizes.
_CENTRE_SHARE = 224 / 256


@dataclass(frozen=True)
class EncoderPass:
    """An encoder and its input.

    Attributes
    ----------
    encoder
        Which of the method's encoders, by its name: ``"query"``, ``"key"``.
    input
        ``"whole"``: the whole image, resized to a square without regard to its shape (ContrastiveCrop). ``"centre"``: resized, and the
        centre cut out, as for evaluation (HCSC, CsMl).
    """

    encoder: str
    input: Input


@dataclass(frozen=True)
class Outputs:
    """What an encoder gives for a batch of b images, float32, on its device.

    Attributes
    ----------
    rows
        Which images of the training set these are.
    maps
        (b, C, h, w): the last feature map before pooling; for a vision transformer the patch tokens of the last block.
    features
        (b, D): the backbone's pooled features.
    embedding
        (b, d): the head's output, L2-normalised.
    sizes
        int64 (b, 2), on the host: height and width of the images, before anything was cut.
    """

    rows: slice
    maps: Tensor
    features: Tensor
    embedding: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class WholeImage:
    """A cut (:class:`evaluation.extraction.batches.Cut`): the whole image at ``size`` x ``size`` pixels, bilinear; as it is where it has
    that size.
    """

    size: int

    def crop_pil(self, image: Image.Image) -> NDArray[np.uint8]:
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.array(image)

    def crop_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        images = torch.from_numpy(np.require(pixels, requirements="W"))
        if pixels.shape[1:3] == (self.size, self.size):
            return images
        planes = F.interpolate(images.permute(0, 3, 1, 2), size=(self.size, self.size), mode="bilinear", antialias=True)
        return planes.permute(0, 2, 3, 1)


class ImageSize:
    """A cut (:class:`evaluation.extraction.batches.Cut`) that keeps nothing of an image but its height and width."""

    def crop_pil(self, image: Image.Image) -> NDArray[np.int64]:
        return np.array([image.height, image.width])

    def crop_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        return torch.tensor(pixels.shape[1:3]).repeat(len(pixels), 1)


def cut_of(name: Input, size: int, native: int | None) -> WholeImage | EvalTransform:
    """The cut behind an input: views of ``size`` pixels, images of ``native`` (None: of various sizes)."""
    if name == "whole":
        return WholeImage(size)
    resize = size if native == size else round(size / _CENTRE_SHARE)
    return EvalTransform(resize, size, "bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def run_pass(encoder: Encoder, images: Tensor, rows: slice = slice(None), sizes: Tensor | None = None) -> Outputs:
    """What ``encoder``, in the mode that it is in, gives for normalised images (b, 3, S, S); no gradient.

    ``sizes`` are those of the images that these were cut from; None: they are whole. Raises as :func:`maps_and_features`.
    """
    if sizes is None:
        sizes = torch.tensor(images.shape[2:]).repeat(len(images), 1)
    with torch.no_grad():
        maps, features = maps_and_features(encoder.backbone, images)
        embedding = encoder.head(features)
    return Outputs(rows, maps.float(), features.float(), F.normalize(embedding.float(), dim=1), sizes)


@torch.no_grad()
def maps_and_features(backbone: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """The last feature map (b, C, h, w) and the pooled features (b, D) of normalised images (b, 3, S, S), in one forward pass.

    Raises
    ------
    UserError
        The backbone has no feature map to show.
    """
    network: Any = backbone
    if not callable(getattr(network, "forward_intermediates", None)):
        name = type(backbone).__name__
        raise UserError(f"the backbone ({name}) shows no feature maps (timm's forward_intermediates), as a survey needs; take another")
    last, maps = network.forward_intermediates(images, indices=1)
    return maps[-1], network.forward_head(last)
