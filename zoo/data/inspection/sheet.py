"""Pictures of annotated images: their boxes, masks and classes drawn over them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.data.boxes.annotations import Record, Split
from zoo.data.boxes.detection_data import KINDS, open_detection_data
from zoo.data.entries import FileEntry
from zoo.data.images import BadImageError
from zoo.data.spec import parse_spec
from zoo.errors import UserError, printable
from zoo.files import replace_file

SHOWN = 12
_SIDE = 360
_COLUMNS = 4
_GAP = 6
_MASK_OPACITY = 90
_BACK = (250, 250, 250)


def drawn_images(split: Split, classes: Sequence[str], count: int = SHOWN) -> list[tuple[str, Image.Image]]:
    """Names and pictures of evenly spread images of a split, of which those with objects come first; images that cannot be read are left
    out."""
    order = sorted(range(len(split.images)), key=lambda row: not split.images[row]["annotations"])
    objects = sum(bool(image["annotations"]) for image in split.images) or len(order)
    shown: list[tuple[str, Image.Image]] = []
    for row in np.unique(np.linspace(0, max(objects - 1, 0), min(count, objects)).round().astype(int)):
        record = split.images[order[row]]
        try:
            with FileEntry(record["file_name"]).decoded(split.reading) as made:
                shown.append((record["file_name"], drawn(made.image, record, classes)))
        except (BadImageError, OSError):
            continue
    return shown


def drawn(image: Image.Image, record: Record, classes: Sequence[str], side: int = _SIDE) -> Image.Image:
    """An image, its longer side ``side`` pixels at most, with its boxes, masks and the names of its classes."""
    scale = min(1.0, side / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    # Coordinates are those of the annotation, whose image may be of another size where the file was exchanged.
    across, down = size[0] / record["width"], size[1] / record["height"]
    picture = image.resize(size, Image.Resampling.BILINEAR).convert("RGBA")
    masks = Image.new("RGBA", size)
    painter = ImageDraw.Draw(masks)
    for annotation in record["annotations"]:
        colour = colour_of(annotation["category_id"])
        polygons = annotation.get("segmentation")
        for polygon in polygons if isinstance(polygons, list) else []:
            points = [(polygon[at] * across, polygon[at + 1] * down) for at in range(0, len(polygon) - 1, 2)]
            painter.polygon(points, fill=(*colour, _MASK_OPACITY))
    picture = Image.alpha_composite(picture, masks).convert("RGB")
    painter = ImageDraw.Draw(picture)
    font = ImageFont.load_default(11)
    for annotation in record["annotations"]:
        colour = colour_of(annotation["category_id"])
        x0, y0, x1, y1 = annotation["bbox"]
        corners = (x0 * across, y0 * down, max(x1 * across - 1, x0 * across), max(y1 * down - 1, y0 * down))
        painter.rectangle(corners, outline=colour, width=2)
        name = printable(classes[annotation["category_id"]])
        left, top, right, bottom = painter.textbbox((corners[0] + 2, max(corners[1] - 13, 0)), name, font=font)
        painter.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colour)
        painter.text((corners[0] + 2, max(corners[1] - 13, 0)), name, fill="white", font=font)
    return picture


def colour_of(number: int) -> tuple[int, int, int]:
    """A class's colour: hues a golden section of the circle apart, so that neighbours differ."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + number * 0.61803) % 1.0, 0.42, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def sheet_of(spec: str, path: Path) -> None:
    """Write a contact sheet of ``voc:`` or ``coco:`` data: training images, then test images, with their boxes.

    Raises UserError for data without boxes, or where the file cannot be written.
    """
    if parse_spec(spec).name not in KINDS:
        raise UserError(f"--sheet draws boxes, and '{spec}' has none; --html shows its images")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the picture to write, such as {path / 'boxes.png'}")
    data = open_detection_data(spec)
    write_sheet(path, [image for split in (data.train, data.test) for _, image in drawn_images(split, data.classes)])


def write_sheet(path: str | Path, pictures: Sequence[Image.Image]) -> None:
    """Write pictures as one contact sheet (PNG). Raises UserError where the file cannot be written."""
    rows = [pictures[start : start + _COLUMNS] for start in range(0, len(pictures), _COLUMNS)]
    heights = [max(picture.height for picture in row) + _GAP for row in rows]
    width = min(_COLUMNS, max(len(pictures), 1)) * (_SIDE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), _BACK)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (_GAP + column * (_SIDE + _GAP), top))
        top += height
    replace_file(path, lambda temporary: sheet.save(temporary, format="PNG"))
