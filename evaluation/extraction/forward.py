"""Forward passes of batches of images: what a frozen network gives must be vectors, and on a CPU smaller pieces may take less time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.models.layers import OUTPUT, parts_of
from zoo.models.transforms import EvalTransform

# Sizes of pieces that are tried beside the whole batch: maps of a smaller piece stay in the processor's cache. Each is tried on so many
# images of the second batch, and must be so much faster.
PIECES = (32, 64)
_TRIED_IMAGES = 128
_FASTER = 0.9
# Batches from which on a trial, which costs about one of them, is made.
_FEWEST_BATCHES = 8


class Forward:
    """A network's outputs for batches, one after the other.

    Parameters
    ----------
    network
        In eval mode, on ``device``.
    transform
        Normalises batches of uint8 images (B, S, S, 3).
    autocast
        As in :func:`evaluation.extraction.features.extract_features`.
    whole
        Images of a whole batch.
    batches
        How many batches there will be.
    tries
        Whether pieces may be chosen by a trial: on a CPU, with enough batches. A size is taken only where the features of the trial's
        images have the same bits at it as in a whole batch; and only whole batches are cut, so that the last, incomplete one is computed as
        ever. So features do not depend on what a trial finds.
    """

    def __init__(
        self,
        network: nn.Module,
        transform: EvalTransform,
        device: torch.device,
        autocast: torch.dtype | None,
        *,
        whole: int,
        batches: int,
        tries: bool,
    ) -> None:
        self._network, self._transform, self._device, self._autocast = network, transform, device, autocast
        self.whole, self._tries = whole, tries and device.type == "cpu" and batches >= _FEWEST_BATCHES
        self.piece = whole
        self._seconds: list[float] = []  # an image, of the first whole batches

    def __call__(self, batch: Tensor) -> Tensor:
        """Features (B, D), where the network is, of a batch of uint8 images (B, S, S, 3).

        Raises UserError where the network gives something else than one vector for each image.
        """
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=self._autocast) if self._autocast is not None else nullcontext(),
        ):
            images = self._transform.normalise(batch.to(self._device, non_blocking=True))
            if len(images) == self.whole and self.piece < self.whole:
                return torch.cat([vectors(self._network(part), len(part)) for part in images.split(self.piece)])
            if not self._tries or len(images) < self.whole:
                return vectors(self._network(images), len(images))
            output, seconds = self._timed(images)
            self._seconds.append(seconds)
            # The first batch of a network also makes what later ones use again.
            if len(self._seconds) == 2:
                self._tries = False
                self.piece = self._fastest(images, output)
            return output

    def _timed(self, images: Tensor) -> tuple[Tensor, float]:
        started = time.perf_counter()
        output = vectors(self._network(images), len(images))
        return output, (time.perf_counter() - started) / len(images)

    def _fastest(self, images: Tensor, output: Tensor) -> int:
        found = {}
        for size in PIECES:
            if size >= self.whole:
                continue
            tried = min(_TRIED_IMAGES, self.whole) // size * size
            outputs, seconds = zip(*(self._timed(part) for part in images[:tried].split(size)), strict=True)
            if torch.equal(torch.cat(outputs), output[:tried]):
                found[size] = min(seconds)
        best = min(found, key=lambda size: found[size], default=self.whole)
        return best if found and found[best] < _FASTER * min(self._seconds) else self.whole


def vectors(output: Any, count: int) -> Tensor:
    """A network's output for ``count`` images, if it is a tensor (count, D). Raises UserError that says what it is, and how to choose."""
    if isinstance(output, Tensor) and output.ndim == 2 and len(output) == count:
        return output
    wanted = f"the network must give features of shape ({count}, D) for {count} images"
    if isinstance(output, Tensor):
        tokens_or_maps = output.ndim in (3, 4) and len(output) == count
        choose = f"; --features {OUTPUT} takes their mean over positions, or the class token" if tokens_or_maps else ""
        raise UserError(f"{wanted}, not {tuple(output.shape)}{choose}")
    parts = parts_of(output)
    if not parts:
        raise UserError(f"{wanted}, not {type(output).__name__}")
    shapes = {name: tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for name, part in parts.items()}
    known = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    kind = "dict" if isinstance(output, Mapping) else type(output).__name__
    raise UserError(f"{wanted}, and gives a {kind} of {known}; choose one, such as --features {OUTPUT}:{next(iter(parts))}")
