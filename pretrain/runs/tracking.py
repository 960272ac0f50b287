"""What trackers get beside the log's numbers: shares in percent, images/s, and, in TensorBoard, pictures of what the network sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from evaluation.views.tables import BOXES
from pretrain.survey.prototypes import hierarchy_of
from zoo.data.base import Images

# Columns of the log that are shares, by their names or by what their last part begins with; trackers show percent, and say so.
_SHARES = ("knn_top1", "boxes/area", "boxes/full", "boxes/unlocated")
_SHARE_BEGINNINGS = ("purity_", "rejected_", "chance_", "dropped")
# Of the pictures: images of a sheet of views, boxes in a row and in all, clusters and their images, and the side of a cell in pixels.
_VIEWED, _BOXES_IN_ROW, _BOXED, _CLUSTERS, _MEMBERS, _SIDE = 8, 6, 24, 8, 8, 64
_YELLOW = (255, 210, 31)


def tracked(row: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """A row of the log as trackers get it: shares in percent (``NAME_percent``), and ``images_per_second`` of ``batch`` images a step."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        last = name.rpartition("/")[2]
        if name in _SHARES or last.startswith(_SHARE_BEGINNINGS):
            shown[f"{name}_percent"] = 100 * value
        elif name != "step":
            shown[name] = value
    if row.get("seconds"):
        shown["images_per_second"] = batch / row["seconds"]
    return shown


class Pictures:
    """Pictures in TensorBoard, where the run has it: the first views of this call, and after each survey its boxes and prototypes."""

    def __init__(self, accelerator: Accelerator, images: Images, mean: Sequence[float], std: Sequence[float]) -> None:
        trackers = accelerator.trackers if accelerator.is_main_process else []
        self._writer: Any = next((tracker.writer for tracker in trackers if tracker.name == "tensorboard"), None)
        self._images, self._mean, self._std = images, mean, std
        self._views_shown = False

    def show_views(self, step: int, views: Sequence[Tensor]) -> None:
        """The views of some images as the network gets them, a row for each image; at the first call only."""
        if self._writer is not None and not self._views_shown:
            self._writer.add_image("views", view_grid(views, self._mean, self._std), step)
        self._views_shown = True

    def show_tables(self, step: int, tables: Mapping[str, NDArray[np.generic]]) -> None:
        """What a survey found, over images of the training set."""
        if self._writer is None:
            return
        if BOXES in tables:
            self._writer.add_image("boxes", box_grid(self._images, np.asarray(tables[BOXES], dtype=np.float32)), step)
        hierarchy = hierarchy_of(tables)
        if hierarchy is not None:
            self._writer.add_image("prototypes", cluster_grid(self._images, hierarchy.assignments[0].cpu().numpy()), step)


def view_grid(views: Sequence[Tensor], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (3, H, W): the views (b, 3, S, S) of the first images, normalised as they are, back in colours; smaller views are enlarged."""
    side = max(view.shape[-1] for view in views)
    scale = [torch.tensor(values, device=views[0].device)[:, None, None] for values in (std, mean)]
    shown = []
    for view in views:
        colours = (view[:_VIEWED].float() * scale[0] + scale[1]).clamp(0, 1)
        shown.append(torch.nn.functional.interpolate(colours, size=(side, side)))
    rows = torch.stack(shown, dim=1).flatten(0, 1)
    return _uint8(make_grid(rows.cpu(), nrow=len(views)))


def box_grid(images: Images, boxes: NDArray[np.float32]) -> Tensor:
    """uint8 (3, H, W): images evenly over the set, each with its box (h0, w0, h1, w1) drawn in yellow."""
    chosen = np.linspace(0, len(images) - 1, min(_BOXED, len(images))).round().astype(np.int64)
    cells = []
    for index in chosen:
        pixels = _cell(images, int(index))
        top, left, bottom, right = np.clip((boxes[index] * (_SIDE - 1)).round().astype(int), 0, _SIDE - 1)
        for rows, columns in ((top, slice(left, right + 1)), (bottom, slice(left, right + 1)), (slice(top, bottom + 1), left)):
            pixels[rows, columns] = _YELLOW
        pixels[top : bottom + 1, right] = _YELLOW
        cells.append(pixels)
    return _uint8(make_grid(_tensor(cells), nrow=_BOXES_IN_ROW))


def cluster_grid(images: Images, assignment: NDArray[np.int64]) -> Tensor:
    """uint8 (3, H, W): a row of images for each of the largest clusters of ``assignment`` (N,)."""
    counts = np.bincount(assignment)
    cells = []
    for cluster in np.argsort(-counts, kind="stable")[:_CLUSTERS]:
        members = np.flatnonzero(assignment == cluster)[:_MEMBERS]
        row = [_cell(images, int(index)) for index in members]
        cells += row + [np.zeros((_SIDE, _SIDE, 3), np.uint8)] * (_MEMBERS - len(row))
    return _uint8(make_grid(_tensor(cells), nrow=_MEMBERS))


def _cell(images: Images, index: int) -> NDArray[np.uint8]:
    return np.array(images.read(index).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.NEAREST))


def _tensor(cells: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2).float() / 255


def _uint8(grid: Tensor) -> Tensor:
    return (grid * 255).round().to(torch.uint8)
