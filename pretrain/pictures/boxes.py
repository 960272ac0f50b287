"""Pictures of boxes over images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from evaluation.views.tables import BOXES
from pretrain.recipes import resume_recipe, typed
from pretrain.runs.run_folder import check_identity, training_images
from pretrain.survey.boxes import box_statistics, check_table, covers_all, locate
from zoo.data import Images, open_data
from zoo.errors import UserError, drawable
from zoo.files import replace_file
from zoo.model_spec import open_model
from zoo.models.runs import is_run, latest_checkpoint, read_checkpoint, read_recipe

_CELL_INCHES, _TITLE_INCHES, _COLUMNS = 1.0, 0.55, 10
_FOUND, _TRUTH = "#ffd21f", "#ffffff"


@dataclass(frozen=True)
class BoxSheet:
    """Which boxes a sheet shows: ``images`` (a few of the training set) and their boxes, the true ones where known, and what they are."""

    images: Images
    boxes: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    title: str


def boxes_of_run(run: Path, count: int) -> BoxSheet:
    """The boxes of ``count`` training images, evenly spread: those of the run's last survey, or those that its last weights give.

    Raises
    ------
    UserError
        ``run`` is no run, its checkpoint or data are not there or do not fit, or its backbone cannot locate anything.
    """
    if not is_run(run):
        raise UserError(f"{run} is not a run folder: it has no recipe.yaml and checkpoints/")
    recipe = typed(resume_recipe(read_recipe(run), []))
    checkpoint = read_checkpoint(latest_checkpoint(run))
    data = open_data(recipe.data, on_bad="skip")
    images = training_images(run, recipe, data)
    shown = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64)
    chosen = images.subset(shown)
    table = checkpoint.get("tables", {}).get(BOXES)
    epoch = checkpoint["epoch"]
    if table is not None:
        check_table(table.numpy(), len(images))
        check_identity(run, checkpoint, images, data)
        boxes, what = table.numpy()[shown], "boxes of the last survey"
    else:
        model = open_model(str(run))
        boxes, _ = locate(
            model.module,
            chosen,
            side=recipe.views.size,
            mean=data.mean,
            std=data.std,
            threshold=recipe.boxes.threshold,
            quantile=recipe.boxes.quantile,
        )
        what = "the run makes no boxes; these are by its last weights"
    truth: Any = chosen.extras.get(BOXES)
    numbers = box_statistics(boxes, np.ones(len(boxes), dtype=bool), covers_all(torch.from_numpy(boxes), recipe.views.size).numpy(), truth)
    area, full = 100 * numbers["boxes/area"], 100 * numbers["boxes/full"]
    title = f"{run.name} after epoch {epoch}: {what}; mean area {area:.0f} %, full {full:.0f} %"
    if truth is not None:
        title += f", IoU with the true boxes {numbers['boxes/iou_truth']:.2f}"
    return BoxSheet(chosen, boxes, truth, title)


def draw_boxes(path: str | Path, sheet: BoxSheet) -> None:
    """Write a contact sheet (PNG): each image with its box, and dashed the true one where it is known.

    Raises UserError where the file cannot be written.
    """
    rows = -(-len(sheet.images) // _COLUMNS)
    height = rows * _CELL_INCHES + _TITLE_INCHES
    figure = Figure(figsize=(_COLUMNS * _CELL_INCHES, height), dpi=130)
    grid = figure.add_gridspec(
        rows, _COLUMNS, left=0.005, right=0.995, bottom=0.005, top=1 - _TITLE_INCHES / height, hspace=0.04, wspace=0.04
    )
    for number in range(len(sheet.images)):
        axes = figure.add_subplot(grid[divmod(number, _COLUMNS)])
        image = np.asarray(sheet.images.read(number))
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()
        if sheet.truth is not None:
            axes.add_patch(_rectangle(sheet.truth[number], image.shape, _TRUTH, "--"))
        axes.add_patch(_rectangle(sheet.boxes[number], image.shape, _FOUND, "-"))
    figure.suptitle(drawable(sheet.title), fontsize=8, y=1 - 0.12 / height)
    legend = "solid: box" + ("; dashed: true box" if sheet.truth is not None else "")
    figure.text(0.5, 1 - 0.45 / height, legend, fontsize=7, ha="center")
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


def _rectangle(box: NDArray[np.float32], shape: tuple[int, ...], colour: str, style: str) -> Rectangle:
    top, left, bottom, right = box * np.array([shape[0], shape[1]] * 2)
    # Pixel centres are whole numbers in matplotlib, so an image begins at -0.5.
    return Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.4, linestyle=style)
