"""Batches of decoded images for passes over a whole split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from evaluation.loading import ClosableLoader
from zoo.cores import own_cores
from zoo.data.base import Images
from zoo.errors import UserError

BATCH_SIZE = 256
# Decoding processes beyond this number compete for the disk more than they help.
_MOST_WORKERS = 16


class Cut(Protocol):
    """What is taken of a decoded image, of one shape for all: mostly uint8 input, as by :class:`zoo.models.transforms.EvalTransform`."""

    def crop_pil(self, image: Image.Image) -> NDArray[Any]:
        """Such as uint8 (S, S, 3), of an RGB image."""

    def crop_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Such as uint8 (B, S, S, 3), of a batch of RGB images (B, H, W, 3)."""


@contextmanager
def cut_batches(
    images: Images, cuts: Sequence[Cut], share: slice, *, batch_size: int, workers: int | None, device: torch.device
) -> Iterator[Iterator[list[Tensor]]]:
    """The images of ``share``, in order, batch by batch: one tensor (B, ...) on the CPU, mostly uint8 (B, S, S, 3), for each of ``cuts``.

    Each image is decoded once for all cuts. Decoding processes end with the block, also by an exception.

    Parameters
    ----------
    workers
        Decoding processes for images that lie in files; None: one per core that this process has for itself.
    device
        Where the batches will go; memory is pinned for GPUs.

    Raises
    ------
    UserError
        An image cannot be decoded.
    """
    starts = range(share.start, share.stop, batch_size)
    if images.pixels is not None:
        pieces = (images.pixels[start : min(start + batch_size, share.stop)] for start in starts)
        yield ([cut.crop_pixels(pixels) for cut in cuts] for pixels in pieces)
        return
    # With one batch there is nothing that decoding could run beside.
    count = 0 if len(starts) <= 1 else min(len(starts), min(_MOST_WORKERS, own_cores()) if workers is None else workers)
    loader: ClosableLoader[list[NDArray[Any]] | UserError] = ClosableLoader(
        _Decoded(images, cuts),
        batch_sampler=[list(range(start, min(start + batch_size, share.stop))) for start in starts],
        num_workers=count,
        collate_fn=_stack,
        pin_memory=device.type == "cuda",
        # Without one of its own the loader would draw from torch's global generator.
        generator=torch.Generator(),
    )
    with loader:
        yield (_checked(batch) for batch in loader)


def _checked(batch: list[Tensor] | UserError) -> list[Tensor]:
    if isinstance(batch, UserError):
        raise batch
    return batch


class _Decoded(Dataset["list[NDArray[Any]] | UserError"]):
    """Decoded and cut images. An error is handed over as a value: raised in a worker, its text would be buried in a stack trace."""

    def __init__(self, images: Images, cuts: Sequence[Cut]) -> None:
        self.images, self.cuts = images, cuts

    def __getitem__(self, index: int) -> list[NDArray[Any]] | UserError:
        try:
            image = self.images.read(index)
        except UserError as error:
            return error
        return [cut.crop_pil(image) for cut in self.cuts]


def _stack(items: list[list[NDArray[Any]] | UserError]) -> list[Tensor] | UserError:
    decoded = []
    for item in items:
        if isinstance(item, UserError):
            return item
        decoded.append(item)
    return [torch.from_numpy(np.stack(cuts)) for cuts in zip(*decoded, strict=True)]
