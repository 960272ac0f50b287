"""A look as one HTML file with pictures, which needs no network."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from zoo.data.base import Images
from zoo.data.boxes.detection_data import open_detection_data
from zoo.data.inspection.boxes import BoxFacts, named_splits
from zoo.data.inspection.findings import Case
from zoo.data.inspection.look import Look, SplitFacts, subject_of
from zoo.data.inspection.sheet import drawn_images
from zoo.data.inspection.text import counts_text, plural, side_bars, spread_text
from zoo.errors import UserError
from zoo.files import replace_text

# Images that each split is shown by, evenly spread, and pictures of cases.
SHOWN_IMAGES = 24
SHOWN_CASES = 6
_PICTURE_SIDE = 144
_JPEG_QUALITY = 82
# Bars of classes; of more the page lists numbers alone.
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Picture:
    """A picture in the page: its name, and a data URI; empty where it cannot be read."""

    name: str
    source: str


def write_page(path: str | Path, look: Look) -> None:
    """Write the page of a look. Raises UserError where it cannot be written, or the data are not there any more."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the page to write, such as {path / 'data.html'}")
    replace_text(path, page_text(look))


def page_text(look: Look) -> str:
    """The page's HTML."""
    pictures = _Pictures(subject_of(look.data).splits)
    context = {
        "look": look,
        "images": sum(split.images for split in look.splits),
        "samples": {images.split: pictures.sample(images) for images in pictures.splits},
        "boxes": {facts.split: _bars(list(facts.objects.items())[:_MOST_CLASSES]) for facts in look.boxes},
        "box_facts": {facts.split: box_facts_of(facts) for facts in look.boxes},
        "sheets": _sheets(look),
        "bars": {split.name: _bars(side_bars(split)) for split in look.splits},
        "classes": {split.name: _bars(list(split.classes.items())[:_MOST_CLASSES]) for split in look.splits},
        "cases": {id(finding): pictures.of_cases(finding.cases) for finding in look.findings},
        "facts": facts_of,
    }
    return template("look.html").render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("zoo.data.inspection", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["id_of"] = id
    environment.globals["plural"] = plural
    return environment


def template(name: str) -> Any:
    """One of this folder's templates."""
    return _environment().get_template(name)


def facts_of(split: SplitFacts) -> dict[str, str]:
    """What the page's table says of a split, by name."""
    good = max(split.images - split.bad, 1)
    turned = sum(count for number, count in split.orientations.items() if number != "1")
    return {
        "used for": ", ".join(split.roles) or "nothing",
        "images": f"{split.images:,}" + (f", of which {split.bad:,} cannot be read" if split.bad else ""),
        "bytes": f"{split.bytes / 1e6:,.1f} MB",
        "labels": ", ".join(f"{name}: {plural(count, 'class')}" for name, count in split.levels.items()) or "none",
        "format": counts_text(split.formats),
        "mode": counts_text(split.modes),
        "width": f"{spread_text(split.width)} px",
        "height": f"{spread_text(split.height)} px",
        "grey": f"{100 * split.grey / good:.1f} %",
        "EXIF orientation": f"{turned:,} images" if turned else "none",
        "pages or frames": f"{split.further_frames:,} images have more than one" if split.further_frames else "one each",
    }


def box_facts_of(facts: BoxFacts) -> dict[str, str]:
    """What the page's table says of a split's boxes, by name."""
    spreads = {"box width": (facts.width, "px"), "box height": (facts.height, "px"), "share of the image": (facts.share, "%")}
    objects = sum(facts.objects.values())
    return {
        "boxes": f"{objects:,}, at most {facts.most:,} in an image; {plural(facts.without_objects, 'image')} without any",
        "left out": plural(facts.left_out, "listed image"),
        "areas": f"small {facts.small:,}, medium {facts.medium:,}, large {facts.large:,} (COCO's borders: 32 x 32, 96 x 96)",
        **{name: "-" if spread is None else f"{' / '.join(f'{v:,g}' for v in spread)} {unit}" for name, (spread, unit) in spreads.items()},
        "masks": f"{facts.polygons:,} by polygons, {facts.bitmaps:,} by run lengths; {plural(facts.crowds, 'crowd region')}",
    }


def _sheets(look: Look) -> dict[str, list[Picture]]:
    """Images with their boxes, by split."""
    if not look.boxes:
        return {}
    data = open_detection_data(look.data)
    return {
        split_name: [Picture(name, data_uri(image, max(image.size))) for name, image in drawn_images(split, data.classes)]
        for split_name, split in named_splits(data).items()
    }


def data_uri(image: Image.Image, side: int = _PICTURE_SIDE) -> str:
    """An image as a small JPEG inside a page, its longer side ``side`` pixels at most."""
    image = image.copy()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


class _Pictures:
    """Pictures of a data set's images, by name."""

    def __init__(self, splits: Iterable[Images]) -> None:
        self.splits = list(splits)
        self._places = {images.where(index): (images, index) for images in self.splits for index in range(len(images))}

    def sample(self, images: Images) -> list[Picture]:
        """A split's sheet."""
        rows = np.unique(np.linspace(0, max(len(images) - 1, 0), min(SHOWN_IMAGES, len(images))).round().astype(np.int64))
        return [picture for picture in (self._picture(images.where(int(row))) for row in rows) if picture.source]

    def of_cases(self, cases: Iterable[Case]) -> list[list[Picture]]:
        """The pictures of the first few cases that have any."""
        shown = [[picture for picture in map(self._picture, case.names) if picture.source] for case in list(cases)[:SHOWN_CASES]]
        return [pictures for pictures in shown if pictures]

    def _picture(self, name: str) -> Picture:
        if name not in self._places:
            return Picture(name, "")
        images, index = self._places[name]
        try:
            return Picture(name, data_uri(images.read(index)))
        except UserError:
            return Picture(name, "")


def _bars(counts: list[tuple[str, int]]) -> list[tuple[str, int, float]]:
    """Name, count and length in percent of each bar."""
    most = max((count for _, count in counts), default=1)
    return [(name, count, round(100 * count / max(most, 1), 2)) for name, count in counts]


