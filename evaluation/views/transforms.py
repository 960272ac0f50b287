"""ContrastiveCrop for other people's loops: a transform in the manner of ``torchvision.transforms.v2``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from evaluation.views.samplers import ContrastiveCrop as ContrastiveCropSampler
from evaluation.views.settings import ViewSettings
from zoo.errors import UserError


class ContrastiveCrop(v2.Transform):
    """Crop an image so that the crop's centre lies in a box, and resize it (Peng et al., arXiv 2202.03278).

    Called with an image and its box, together as a pair or as two arguments, it returns the image. As a pair they can enter a
    ``v2.Compose`` whose first step this is. The law is that of :class:`evaluation.views.samplers.ContrastiveCrop`; the random
    numbers are those of torch's global generator, which ``torch.manual_seed`` and the workers of a ``DataLoader`` seed.

    Parameters
    ----------
    size
        Side of the result in pixels, or its height and width.
    scale, ratio
        Ranges of the crop's share of the image's area, and of its width over its height.
    alpha
        Each coordinate of the centre follows a Beta(alpha, alpha): below 1 it prefers the box's ends.
    inclusive
        Whether the far end of the range of positions can be reached; the published sampler cannot.
    interpolation, antialias
        As in ``torchvision.transforms.v2.RandomResizedCrop``.

    Raises
    ------
    UserError
        For a parameter or a box without meaning.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = tuple(ViewSettings().scale),
        ratio: Sequence[float] = tuple(ViewSettings().ratio),
        alpha: float = ViewSettings.alpha,
        inclusive: bool = ViewSettings.inclusive,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        antialias: bool = True,
    ) -> None:
        super().__init__()
        self.size = [size, size] if isinstance(size, int) else list(size)
        if len(self.size) != 2:
            raise UserError(f"ContrastiveCrop's size must be one side or a height and a width, not {self.size}")
        ViewSettings(size=min(self.size), scale=list(scale), ratio=list(ratio), alpha=alpha).check("ContrastiveCrop")
        self.scale, self.ratio, self.alpha, self.inclusive = tuple(scale), tuple(ratio), alpha, inclusive
        self.interpolation, self.antialias = interpolation, antialias
        self._sampler = ContrastiveCropSampler((scale[0], scale[1]), (ratio[0], ratio[1]), alpha, inclusive)

    def forward(self, *inputs: Any) -> Any:
        """Cut one crop.

        Parameters
        ----------
        inputs
            ``image, box`` or ``(image, box)``. The image is a PIL image, a ``tv_tensors.Image`` or a tensor (..., H, W), all of
            whose leading axes share the crop. The box is four numbers (h0, w0, h1, w1) in shares of height and width.

        Returns
        -------
        The cropped and resized image, of the kind given.
        """
        pair = inputs[0] if len(inputs) == 1 else inputs
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError("ContrastiveCrop takes an image and its box (h0, w0, h1, w1); for no particular box give (0, 0, 1, 1)")
        image, box = pair
        top, left, height, width = self.draw(v2.functional.get_size(image), box)
        return v2.functional.resized_crop(
            image, top, left, height, width, self.size, interpolation=self.interpolation, antialias=self.antialias
        )

    def draw(self, size: Sequence[int], box: Sequence[float]) -> list[int]:
        """Draw the crop (top, left, height, width) of an image of ``size`` (height, width), in whole pixels."""
        uniforms = torch.rand(1, self._sampler.draws, dtype=torch.float64).tolist()[0]
        return self._sampler.one(size, uniforms, _plain_box(box))


def _plain_box(box: Any) -> list[float]:
    """``box`` as four float32 numbers, which is how a survey keeps it. Raises UserError for one without meaning."""
    numbers = np.asarray(box, dtype=np.float32)
    values: list[float] = numbers.tolist()
    if numbers.shape != (4,) or not (0.0 <= values[0] <= values[2] <= 1.0 and 0.0 <= values[1] <= values[3] <= 1.0):
        raise UserError(
            "ContrastiveCrop's box must be four numbers (top, left, bottom, right) in shares of the image, "
            f"such as (0.25, 0.25, 0.75, 0.75), not {values}"
        )
    return values
