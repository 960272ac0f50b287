"""Boxes, masks and labels over a picture; labels never cover each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zoo.errors import printable

Corners = tuple[float, float, float, float]
Colour = tuple[int, int, int]

# A picture is drawn at a size at which labels can be read: its longer side is at least, and at most, so many pixels.
LEAST_SIDE, MOST_SIDE = 720, 1600
_FONT_SIZE = 13
_MASK_OPACITY = 0.35
_DASH, _GAP = 7, 5
_PAD = 2
# A label that finds no free place within so many of its own heights of its box is left away.
_REACH = 6


@dataclass(frozen=True)
class Shown:
    """One object to draw.

    Attributes
    ----------
    box
        (x0, y0, x1, y1) in pixels of the picture.
    label
        Is written beside the box; ``""``: nothing.
    colour
        RGB, of 255.
    dashed
        The outline, for what is not there to be seen by other means than its colour.
    mask
        bool (H, W) of the picture, or None.
    """

    box: Corners
    label: str
    colour: Colour
    dashed: bool = False
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Drawn:
    """A picture with what was drawn: the places of the labels (x0, y0, x1, y1), and how many found none."""

    picture: Image.Image
    labels: list[Corners]
    without_place: int


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings this font along; it has Latin, Greek, Cyrillic and more.
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def draw(image: Image.Image, shown: Sequence[Shown], *, least: int = LEAST_SIDE, most: int = MOST_SIDE) -> Drawn:
    """A picture, enlarged or made smaller to a side between ``least`` and ``most`` pixels, with objects drawn over it.

    Labels of objects that come first find their places first; give them in order of importance.
    """
    longer = max(image.size)
    scale = max(1, -(-least // longer)) if longer < least else min(1.0, most / longer)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    across, down = size[0] / image.width, size[1] / image.height
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    picture = _with_masks(image.convert("RGB"), shown).resize(size, resample)
    painter = ImageDraw.Draw(picture)
    boxes = [(x0 * across, y0 * down, x1 * across - 1, y1 * down - 1) for x0, y0, x1, y1 in (one.box for one in shown)]
    # The first on top.
    for one, box in reversed(list(zip(shown, boxes, strict=True))):
        _outline(painter, box, one.colour, dashed=one.dashed)
    taken: list[Corners] = []
    lost = 0
    for one, box in zip(shown, boxes, strict=True):
        text = printable(one.label)
        if not text:
            continue
        place = _free_place(painter, text, box, size, taken)
        if place is None:
            lost += 1
            continue
        taken.append(place)
        if not _touches(place, box):
            middle = min(max((place[0] + place[2]) / 2, box[0]), box[2])
            below = place[1] > box[3]
            painter.line((middle, box[3] if below else box[1], middle, place[1] if below else place[3]), fill=one.colour)
        painter.rectangle(place, fill=one.colour)
        painter.text((place[0] + _PAD, place[1] + _PAD), text, fill=_readable_on(one.colour), font=_font(_FONT_SIZE), anchor="la")
    return Drawn(picture, taken, lost)


def _with_masks(picture: Image.Image, shown: Sequence[Shown]) -> Image.Image:
    masked = [one for one in shown if one.mask is not None]
    if not masked:
        return picture
    pixels = np.asarray(picture, np.float32).copy()
    for one in reversed(masked):
        pixels[one.mask] += (np.array(one.colour, np.float32) - pixels[one.mask]) * _MASK_OPACITY
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def _outline(painter: ImageDraw.ImageDraw, box: Corners, colour: Colour, *, dashed: bool) -> None:
    x0, y0, x1, y1 = box[0], box[1], max(box[2], box[0]), max(box[3], box[1])
    if not dashed:
        painter.rectangle((x0, y0, x1, y1), outline=colour, width=2)
        return
    for start, stop in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):
        length = max(abs(stop[0] - start[0]), abs(stop[1] - start[1]))
        for at in np.arange(0, length, _DASH + _GAP):
            first, last = at / max(length, 1), min(at + _DASH, length) / max(length, 1)
            ends = [start[axis] + (stop[axis] - start[axis]) * share for share in (first, last) for axis in (0, 1)]
            painter.line(ends, fill=colour, width=2)


def _free_place(painter: Any, text: str, box: Corners, size: tuple[int, int], taken: Sequence[Corners]) -> Corners | None:
    """Where a label lies within the picture and over no other label, as near to its box as can be."""
    left, top, right, bottom = painter.textbbox((0, 0), text, font=_font(_FONT_SIZE), anchor="la")
    width, height = right - min(left, 0) + 2 * _PAD, bottom - min(top, 0) + 2 * _PAD
    if width > size[0] or height > size[1]:
        return None
    for x, y in _candidates(box, width, height):
        x, y = min(max(x, 0.0), size[0] - width - 1.0), min(max(y, 0.0), size[1] - height - 1.0)
        place = (x, y, x + width, y + height)
        if not any(_touches(place, other) for other in taken):
            return place
    return None


def _candidates(box: Corners, width: float, height: float) -> Iterator[tuple[float, float]]:
    x0, y0, x1, y1 = box
    yield from ((x0, y0 - height - 1), (x1 - width, y0 - height - 1), (x0, y1 + 1), (x1 - width, y1 + 1))
    yield from ((x0, y0), (x1 - width, y0), (x0, y1 - height), (x1 - width, y1 - height), (x1 + 1, y0), (x0 - width - 1, y0))
    for step in range(1, _REACH):
        for x in (x0, x1 - width, x0 - width / 2, x1 - width / 2):
            yield x, y0 - (step + 1) * (height + 1)
            yield x, y1 + step * (height + 1) + 1


def _touches(one: Corners, other: Corners) -> bool:
    return one[0] <= other[2] + 1 and other[0] <= one[2] + 1 and one[1] <= other[3] + 1 and other[1] <= one[3] + 1


def _readable_on(colour: Colour) -> Colour:
    """Black or white, whichever differs more from a colour (luma of ITU-R BT.601)."""
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else (255, 255, 255)


def contact_sheet(
    pictures: Sequence[tuple[str, Image.Image]], title: Sequence[str], *, columns: int = 3, side: int = LEAST_SIDE
) -> Image.Image:
    """Pictures with their names in a grid below lines of text. Pictures larger than ``side`` pixels are made smaller."""
    font, gap = _font(_FONT_SIZE + 1), 8
    line = _FONT_SIZE + 8
    small = [(name, picture.copy()) for name, picture in pictures]
    for _, picture in small:
        picture.thumbnail((side, side))
    columns = max(1, min(columns, len(small)))
    cell = max((picture.width for _, picture in small), default=side)
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    heights = [max(picture.height for _, picture in row) + line + gap for row in rows]
    width = max(columns * (cell + gap) + gap, side)
    lines = [part for text in title for part in _wrapped(printable(text), font, width - 2 * gap)]
    sheet = Image.new("RGB", (width, len(lines) * line + sum(heights) + 2 * gap), (250, 250, 250))
    painter = ImageDraw.Draw(sheet)
    for number, text in enumerate(lines):
        painter.text((gap, gap + number * line), text, fill="black", font=font)
    top = gap + len(lines) * line
    for row, height in zip(rows, heights, strict=True):
        for column, (name, picture) in enumerate(row):
            left = gap + column * (cell + gap)
            painter.text((left, top), _cut(printable(name), font, cell), fill="black", font=font)
            sheet.paste(picture, (left, top + line))
        top += height
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The end of a text that is too wide: of a path, it tells most."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
