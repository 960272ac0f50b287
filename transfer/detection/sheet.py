"""A contact sheet of detections: test images with what is there and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from transfer.detection.engine.mapper import read_pixels
from zoo.data.boxes.annotations import Record
from zoo.errors import drawable
from zoo.files import replace_file

SHOWN_IMAGES = 12
SHOWN_SCORE = 0.5
_COLUMNS = 4
_CELL_INCHES = 3.2
_MASK_OPACITY = 0.35


def draw_sheet(path: Path, model: Any, mapper: Any, records: Sequence[Record], classes: Sequence[str], title: str) -> None:
    """Draw detections with a score of at least SHOWN_SCORE on evenly spread test images.

    Parameters
    ----------
    model, mapper
        A detectron2 model, and its :class:`~transfer.detection.engine.mapper.LayerMapper` for testing.
    records
        The test images, in detectron2's form.
    """
    chosen = np.linspace(0, len(records) - 1, min(SHOWN_IMAGES, len(records))).round().astype(int)
    rows = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _CELL_INCHES, rows * _CELL_INCHES + 0.6), dpi=100, layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    colours = colormaps["tab10"]
    for place in axes:
        place.set_axis_off()
    for place, index in zip(axes, chosen, strict=False):
        record = records[index]
        place.imshow(read_pixels(record, mapper.reading))
        for annotation in record["annotations"]:
            x0, y0, x1, y1 = annotation["bbox"]
            place.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=0.8, edgecolor="white", linestyle=":"))
        found = _detections(model, mapper, record)
        for box, score, number, mask in found:
            x0, y0, x1, y1 = box
            colour = colours(number % 10)
            place.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=1.2, edgecolor=colour))
            said = f"{drawable(classes[number])} {score:.2f}"
            place.text(x0, y0, said, fontsize=5, color="white", va="bottom", backgroundcolor=(*colour[:3], 0.7))
            if mask is not None:
                overlay = np.zeros((*mask.shape, 4))
                overlay[mask] = (*colour[:3], _MASK_OPACITY)
                place.imshow(overlay)
        place.set_title(drawable(Path(record["file_name"]).name), fontsize=6)
    figure.suptitle(f"{drawable(title)}\nwhite dots: annotated; colours: found with a score of at least {SHOWN_SCORE}", fontsize=8)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


@torch.no_grad()
def _detections(model: Any, mapper: Any, record: Record) -> list[tuple[NDArray[Any], float, int, NDArray[Any] | None]]:
    """Box (x0, y0, x1, y1), score, class and mask of each detection that is shown, the best last, so that it lies on top."""
    training = model.training
    model.eval()
    try:
        instances = model([mapper(record)])[0]["instances"].to("cpu")
    finally:
        model.train(training)
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else [None] * len(instances)
    rows = zip(instances.pred_boxes.tensor.numpy(), instances.scores.tolist(), instances.pred_classes.tolist(), masks, strict=True)
    return sorted((row for row in rows if row[1] >= SHOWN_SCORE), key=lambda row: row[1])
