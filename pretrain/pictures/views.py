"""A contact sheet of the views that a recipe draws: what the network gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig

from evaluation.views import ViewSource
from evaluation.views.tables import BOXES
from pretrain.methods import METHODS
from pretrain.recipes import typed
from pretrain.sizes import Seen, fit_to_images, with_sizes
from zoo.data import Images, open_data
from zoo.errors import drawable
from zoo.files import replace_file

_CELL_INCHES, _TITLE_INCHES = 0.95, 0.6
# Of a method with few views, those of a second epoch too.
_MOST_COLUMNS = 9
# The kind of crops that lie in boxes of the survey.
FOLLOWING = "contrastive_crop"


@dataclass(frozen=True)
class ViewSheet:
    """What a sheet shows.

    Attributes
    ----------
    images
        The images, as they are.
    views
        By column, float32 (images, S, S, 3) in 0 .. 1.
    headings
        Over each column of views: its name, with the epoch.
    title
        Recipe, crops, and what boxes they follow.
    """

    images: Images
    views: list[NDArray[np.float32]]
    headings: list[str]
    title: str


def views_of_recipe(config: DictConfig, name: str, count: int) -> ViewSheet:
    """The views of ``count`` training images, evenly spread, in the first epochs of a run with this recipe.

    Crops that follow boxes follow the true ones where the data have them, else the box of the first epochs, the whole image.

    Raises
    ------
    UserError
        What the data, the views or the method refuse.
    """
    data = open_data(config.data, on_bad="skip")
    images = data.role("pretrain")
    side = None if images.pixels is None else min(images.pixels.shape[1:3])
    config = with_sizes(fit_to_images(config, Seen(len(images), side)), len(images))
    recipe = typed(config)
    chosen = images.subset(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64))
    specs = METHODS[config.method.name].views(recipe.method, recipe.views.size)
    source = ViewSource(
        chosen, specs, recipe.views, mean=data.mean, std=data.std, seed=recipe.seed, batch=len(chosen), device="cpu", workers=0
    )
    truth = chosen.extras.get(BOXES)
    follows = recipe.views.crop == FOLLOWING
    tables = {BOXES: np.asarray(truth, dtype=np.float32)} if follows and truth is not None else {}
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    columns, headings = [], []
    for epoch in range(max(1, _MOST_COLUMNS // len(specs))):
        (batch,) = list(source.batches(epoch, 0, tables))
        order = torch.argsort(batch.index)
        for spec, view in zip(specs, batch.views, strict=True):
            columns.append((view[order] * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy())
            headings.append(f"{spec.name}\nepoch {epoch + 1}")
    boxes = ""
    if follows:
        boxes = ", in the true boxes" if truth is not None else ", before the first survey: the box is the whole image"
    title = f"{name} on {recipe.data}: views of {recipe.views.size} px, {recipe.views.crop}{boxes}"
    return ViewSheet(chosen, columns[:_MOST_COLUMNS], headings[:_MOST_COLUMNS], title)


def draw_views(path: str | Path, sheet: ViewSheet) -> None:
    """Write the sheet (PNG): a row for each image, the image first. Raises UserError where the file cannot be written."""
    rows, columns = len(sheet.images), len(sheet.views) + 1
    height = rows * _CELL_INCHES + _TITLE_INCHES
    figure = Figure(figsize=(columns * _CELL_INCHES, height), dpi=110)
    grid = figure.add_gridspec(rows, columns, left=0.01, right=0.99, bottom=0.01, top=1 - _TITLE_INCHES / height, hspace=0.05, wspace=0.05)
    for row in range(rows):
        cells = [np.asarray(sheet.images.read(row)), *(view[row] for view in sheet.views)]
        for column, picture in enumerate(cells):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title("image\n" if column == 0 else sheet.headings[column - 1], fontsize=6.5)
    figure.suptitle(drawable(sheet.title), fontsize=7.5, y=1 - 0.08 / height)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))
