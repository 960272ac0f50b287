"""Boxes: where on each image the network's last feature map is active (Peng et al., arXiv 2202.03278, section 3.2).

A box is float32 (h0, w0, h1, w1): the first and the last active row and column, divided by the image's side. The last index is not
increased by one, as published; a map that is active everywhere gives (0, 0, (S - 1) / S, (S - 1) / S).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.extraction.batches import BATCH_SIZE, cut_batches
from evaluation.extraction.features import eval_mode
from evaluation.parallel import Processes
from evaluation.views.tables import BOXES
from pretrain.settings import BoxLook, BoxSettings
from pretrain.survey.encoder_pass import EncoderPass, Outputs, WholeImage, cut_of, maps_and_features
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform, normalise

# A map whose values differ by less says nothing of where the object is.
_SMALLEST_RANGE = 1e-12
# Fewer cells than this cannot tell where on the image something is.
SMALLEST_MAP = 4
# Enlarged maps are held for so many pixels at a time: 64 MiB on a GPU, 4 MiB on a CPU, whose caches hold as much.
_PIXELS_AT_ONCE = {"cuda": 1 << 24, "cpu": 1 << 20}


def heat_maps(maps: Tensor) -> Tensor:
    """float32 (B, h, w): the sum over the channels of feature maps (B, C, h, w)."""
    return maps.float().sum(dim=1)


def extract_boxes(heat: Tensor, side: int, *, threshold: float = 0.1, quantile: float | None = None) -> tuple[Tensor, Tensor]:
    """The tightest box around the active pixels of each map.

    A map is scaled to 0 .. 1, enlarged to the image (bilinear, pixel centres aligned), and what exceeds the threshold is active. The hull
    is taken over all active pixels, connected or not. The arithmetic is the published loop's, image by image, for a whole batch at once,
    and gives its bits.

    Parameters
    ----------
    heat
        float32 (B, h, w).
    side
        Side of the images in pixels.
    threshold
        In 0 .. 1.
    quantile
        Instead of ``threshold``: the quantile, in 0 .. 1, of each map's own cells.

    Returns
    -------
    boxes
        float32 (B, 4), on the device of ``heat``; the whole image, (0, 0, 1, 1), where nothing could be located.
    located
        bool (B,): False where the map is constant, not finite, or nowhere above the threshold.
    """
    if len(heat) == 0:
        return heat.new_empty(0, 4), torch.empty(0, dtype=torch.bool, device=heat.device)
    step = max(1, _PIXELS_AT_ONCE[heat.device.type] // side**2)
    parts = [_extract(part, side, threshold, quantile) for part in heat.split(step)]
    return torch.cat([boxes for boxes, _ in parts]), torch.cat([located for _, located in parts])


def _extract(heat: Tensor, side: int, threshold: float, quantile: float | None) -> tuple[Tensor, Tensor]:
    finite = heat.isfinite().flatten(1).all(dim=1)
    heat = torch.where(finite[:, None, None], heat, 0.0)
    heat = heat - heat.amin(dim=(1, 2), keepdim=True)
    peak = heat.amax(dim=(1, 2), keepdim=True)
    ranged = (peak > _SMALLEST_RANGE).flatten()
    scaled = heat / torch.where(peak > _SMALLEST_RANGE, peak, 1.0)
    limit: Tensor | float = threshold
    if quantile is not None:
        limit = torch.quantile(scaled.flatten(1), quantile, dim=1)[:, None]
    large = F.interpolate(scaled[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    # A line has an active pixel if its maximum is active: on a CPU a tenth of the cost of comparing every pixel.
    rows, columns = large.amax(dim=2) > limit, large.amax(dim=1) > limit
    # Per axis: index of the first and of the last line with an active pixel. argmax finds the first True.
    down, right = rows.to(torch.uint8), columns.to(torch.uint8)
    ends = [down.argmax(1), right.argmax(1), side - 1 - down.flip(1).argmax(1), side - 1 - right.flip(1).argmax(1)]
    boxes = torch.stack(ends, dim=1).to(torch.float32) / side
    located = finite & ranged & rows.any(dim=1)
    # The whole image, (0, 0, 1, 1), made on the device.
    whole = (torch.arange(4, device=boxes.device) >= 2).to(boxes.dtype)
    return torch.where(located[:, None], boxes, whole), located


def overlap(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 (N,): intersection over union of boxes (N, 4) and others (N, 4), row by row; 0 where both are empty."""
    first, second = boxes.astype(np.float64), others.astype(np.float64)
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    common = np.clip(sides, 0.0, None).prod(axis=1)
    union = areas(first) + areas(second) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def areas(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """float64 (N,): the share of the image that each box (N, 4) covers."""
    return np.asarray((boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(axis=1))


class BoxMaker:
    """Makes the table of boxes: the trained encoder's maps of the whole images, or those that other tables are made of, in eval mode.

    Parameters
    ----------
    settings
        The recipe's, with no number left open.
    side
        Side in pixels at which the network sees the images.
    truth
        float32 (N, 4): the true boxes of the training images, where they are known; only measured against.
    native
        Side of the images where all have one, else None.
    """

    def __init__(self, settings: BoxSettings, side: int, truth: NDArray[np.float32] | None = None, *, native: int | None = None) -> None:
        self._settings, self._side, self._truth = settings, side, truth
        # A batch's findings stay on the device until all are there: to fetch them at once would make the host wait at each batch.
        self._seen: list[tuple[slice, Tensor, Tensor]] = []
        self._count = 0
        shared = settings.look is BoxLook.shared
        self.encoder_pass = EncoderPass("key", "centre") if shared else EncoderPass("query", "whole")
        cut = cut_of(self.encoder_pass.input, side, native)
        self._centre = cut if isinstance(cut, EvalTransform) else None

    def due(self, epoch: int) -> bool:
        """Whether boxes are made at the start of ``epoch`` (counted from 0)."""
        warmup, every = self._settings.warmup_epochs, self._settings.every_epochs
        assert warmup is not None
        assert every is not None
        # Of a network that has not taken a step yet, maps say nothing.
        return epoch >= max(1, warmup) and epoch % every == 0

    def start(self, count: int) -> None:
        self._count, self._seen = count, []

    def update(self, outputs: Outputs) -> None:
        boxes, located = extract_boxes(
            heat_maps(outputs.maps), self._side, threshold=self._settings.threshold, quantile=self._settings.quantile
        )
        found = torch.cat([boxes, located[:, None].to(boxes.dtype), covers_all(boxes, self._side)[:, None].to(boxes.dtype)], dim=1)
        self._seen.append((outputs.rows, found, outputs.sizes if self._centre is not None else outputs.sizes[:0]))

    def _table(self) -> Tensor:
        """float32 (N, 6) on the CPU: box, located, full; zeros for images that other processes saw."""
        table, seen = torch.zeros(self._count, 6), self._seen
        self._seen = []
        if not seen:
            return table
        found, sizes = torch.cat([part for _, part, _ in seen]).cpu(), torch.cat([part for _, _, part in seen])
        if self._centre is not None:
            # Where nothing was located, the box stays the whole image.
            found[:, :4] = torch.where(found[:, 4:5] > 0, of_whole_images(found[:, :4], sizes, self._centre), found[:, :4])
        # A process sees its share from one end to the other.
        table[seen[0][0].start : seen[-1][0].stop] = found
        return table

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        table = self._table()
        processes.gather_rows(table, BATCH_SIZE)
        boxes = table[:, :4].numpy().copy()
        located, full = (table[:, 4:] > 0).numpy().T
        numbers = box_statistics(boxes, located, full, self._truth)
        text = f"boxes cover {100 * numbers['boxes/area']:.1f} % of an image on average, {100 * numbers['boxes/full']:.1f} % are full"
        if not located.all():
            text += f", {int((~located).sum())} images have no usable map and get the full box"
        if self._truth is not None:
            text += f"; IoU with the true boxes {numbers['boxes/iou_truth']:.3f}"
        return {BOXES: boxes}, numbers, text


def covers_all(boxes: Tensor, side: int) -> Tensor:
    """bool (N,): whether boxes (N, 4) cover all ``side`` x ``side`` pixels that the network saw."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) >= ((side - 1) / side) ** 2 - 1e-6


def of_whole_images(boxes: Tensor, sizes: Tensor, centre: EvalTransform) -> Tensor:
    """float32 (B, 4): boxes (B, 4) in shares of centre crops, in shares of the whole images of ``sizes`` (B, 2: height, width)."""
    placed = [centre.place(*size) for size in sizes.tolist()]
    resized, corner = (torch.tensor(values, dtype=torch.float64).repeat(1, 2) for values in zip(*placed, strict=True))
    return ((corner + centre.crop * boxes.double()) / resized).float()


def box_statistics(
    boxes: NDArray[np.float32], located: NDArray[np.bool_], full: NDArray[np.bool_], truth: NDArray[np.float32] | None = None
) -> dict[str, float]:
    """What the log says of boxes (N, 4): mean share of the image, share of full boxes, share without a usable map, IoU with the truth."""
    numbers = {
        "boxes/area": float(areas(boxes).mean()),
        "boxes/full": float(full.mean()),
        "boxes/unlocated": float((~located).mean()),
    }
    if truth is not None:
        numbers["boxes/iou_truth"] = float(overlap(boxes, truth).mean())
    return numbers


def initial_boxes(settings: BoxSettings, count: int) -> NDArray[np.float32]:
    """float32 (N, 4), read-only: the box of all images before the first survey."""
    return np.broadcast_to(np.array(settings.initial, dtype=np.float32), (count, 4))


def locate(
    backbone: nn.Module,
    images: Images,
    *,
    side: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threshold: float = 0.1,
    quantile: float | None = None,
    workers: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes of any images by any backbone of timm's, as a survey makes them.

    Parameters
    ----------
    backbone
        On the device where it is to run; it sees in eval mode and is left as it was.
    images
        A split.
    side
        Side in pixels of the square that each whole image is resized to.
    mean, std
        Per-channel statistics of pixels in [0, 1].
    threshold, quantile
        As in :func:`extract_boxes`.
    workers
        Decoding processes for images that lie in files; None: one per core.

    Returns
    -------
    boxes, located
        float32 (N, 4) and bool (N,), as in :func:`extract_boxes`.

    Raises
    ------
    UserError
        An image cannot be decoded; the backbone's last feature map is too coarse, or it shows none.
    """
    device = next(backbone.parameters()).device
    check_map(backbone, side)
    parts = []
    batches = cut_batches(images, [WholeImage(side)], slice(0, len(images)), batch_size=BATCH_SIZE, workers=workers, device=device)
    with eval_mode(backbone), batches as whole:
        for (batch,) in whole:
            maps, _ = maps_and_features(backbone, normalise(batch.to(device, non_blocking=True), mean, std))
            parts.append([found.cpu() for found in extract_boxes(heat_maps(maps), side, threshold=threshold, quantile=quantile)])
    return torch.cat([boxes for boxes, _ in parts]).numpy(), torch.cat([located for _, located in parts]).numpy()


def check_map(backbone: nn.Module, side: int) -> None:
    """Raise UserError for a backbone whose last feature map, at images of ``side`` pixels, cannot say where something is."""
    with eval_mode(backbone):
        maps, _ = maps_and_features(backbone, torch.zeros(1, 3, side, side, device=next(backbone.parameters()).device))
    height, width = maps.shape[2:]
    if height * width < SMALLEST_MAP:
        raise UserError(
            f"the backbone's last feature map at {side} px is {height}x{width}, which cannot locate an object; boxes need a finer one: "
            "take a backbone with the small-image stem (resnet18_small), a larger views.size, or views.crop=random_resized_crop"
        )


def check_look(settings: BoxSettings, encoders: Collection[str], method: str) -> None:
    """Raise UserError where boxes are to be made of the key encoder's pass, and the method has no such encoder."""
    if settings.look is BoxLook.shared and "key" not in encoders:
        raise UserError(f"boxes.look=shared takes the key encoder's pass, and {method} has no key encoder; use boxes.look=whole")


def check_table(boxes: NDArray[np.generic], count: int) -> None:
    """Raise UserError where a checkpoint's boxes are not those of ``count`` images."""
    if boxes.shape != (count, 4):
        raise UserError(f"the boxes are of shape {boxes.shape}, but there are {count} training images; use the data they were made of")
