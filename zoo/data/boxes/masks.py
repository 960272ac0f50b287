"""Masks as COCO writes them, polygons and run lengths, checked before any library is given them.

pycocotools takes gigabytes for a polygon that leaves the image far behind, and reads beyond its memory for run lengths that do not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.boxes.annotations import BAD_MASK, FEW_POINTS, SWAPPED_MASK, Problems, Record

_LEAST_NUMBERS = 6
_NUMBERS, _FLOATS = {int, float}, {float}
# Letters of compressed run lengths hold 5 bits of a number and whether more follow, from this sign on.
_FIRST_SIGN, _BITS, _MOST_DIGITS = 48, 5, 7


def checked_mask(mask: Any, image: Record, where: str, problems: Problems) -> list[list[float]] | dict[str, Any] | None:
    """A mask that fits its image: polygons, or run lengths as they are; None where there is none, with a case among the problems if broken.

    Parameters
    ----------
    mask
        What the file says.
    image
        ``height`` and ``width`` in pixels.
    """
    if isinstance(mask, dict):
        reason = _wrong_run_lengths(mask, image["height"], image["width"])
        if reason is None:
            return mask
        kind = SWAPPED_MASK if reason == SWAPPED_MASK else BAD_MASK
        problems.add(
            kind,
            where,
            f"size {mask.get('size')} of an image {image['width']} wide and {image['height']} high" if kind != BAD_MASK else reason,
        )
    elif mask:
        return checked_polygons(mask, image, where, problems) or None
    return None


def checked_polygons(polygons: Any, image: Record, where: str, problems: Problems) -> list[list[float]]:
    """The polygons with at least three points that lie about their image; the others are cases among the problems."""
    kept: list[list[float]] = []
    if not isinstance(polygons, list):
        problems.add(BAD_MASK, where, repr(polygons)[:60])
        return kept
    # Real outlines leave the image by a few pixels; one that leaves it by its whole side is of another image, or no outline.
    width, height = image["width"], image["height"]
    for polygon in polygons:
        if not isinstance(polygon, list):
            problems.add(FEW_POINTS, where, repr(polygon)[:60])
            continue
        kinds = set(map(type, polygon))
        if not kinds <= _NUMBERS:
            problems.add(BAD_MASK, where, repr(polygon)[:60])
            continue
        if len(polygon) < _LEAST_NUMBERS or len(polygon) % 2:
            problems.add(FEW_POINTS, where, f"{len(polygon) / 2:g} points")
            continue
        xs, ys = polygon[::2], polygon[1::2]
        if not (-width <= min(xs) and max(xs) <= 2 * width and -height <= min(ys) and max(ys) <= 2 * height):
            problems.add(BAD_MASK, where, f"a polygon far outside the image: {polygon!r}"[:90])
        else:
            kept.append(polygon if kinds == _FLOATS else list(map(float, polygon)))
    return kept


def box_of_mask(mask: list[list[float]] | dict[str, Any]) -> list[float] | None:
    """The box (x0, y0, x1, y1) in pixels around a checked mask; None where it covers nothing."""
    if isinstance(mask, list):
        xs, ys = ([value for polygon in mask for value in polygon[axis::2]] for axis in (0, 1))
        return [min(xs), min(ys), max(xs), max(ys)]
    height = mask["size"][0]
    ends: NDArray[np.int64] = np.cumsum(_counts(mask["counts"]))
    # Every second run, from the second on, is of the object; pixels are counted down the columns.
    starts, stops = ends[:-1:2], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return None
    left, right = starts // height, (stops - 1) // height
    several = left != right
    top = np.where(several, 0, starts % height)
    bottom = np.where(several, height - 1, (stops - 1) % height)
    return [float(left.min()), float(top.min()), float(right.max() + 1), float(bottom.max() + 1)]


def _wrong_run_lengths(mask: dict[str, Any], height: int, width: int) -> str | None:
    """Why run lengths are no mask of an image of that size; None where they are."""
    size = mask.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        return f"size {size!r}"[:60]
    if size != [height, width]:
        return SWAPPED_MASK if size == [width, height] else f"size {size} of an image of {height} x {width} (height x width)"
    try:
        counts = _counts(mask.get("counts"))
    except ValueError as error:
        return str(error)
    total = sum(counts)
    return None if total == height * width else f"its runs are of {total} pixels, and the image has {height * width}"


def _counts(counts: Any) -> list[int]:
    """Run lengths as numbers, from a list or COCO's compressed text. Raises ValueError where they are neither.

    In the text a number is written from its lowest 5 bits on, one sign each, of which the sixth bit says whether more follow and the
    fifth of the last is its sign; from the fourth number on it is the difference to the one two before (the format of pycocotools).
    """
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"run lengths {counts!r}"[:60])
        return counts
    if not isinstance(counts, str):
        raise ValueError(f"run lengths {counts!r}"[:60])
    numbers: list[int] = []
    value = shift = 0
    for sign in counts:
        bits = ord(sign) - _FIRST_SIGN
        if not 0 <= bits < 64 or shift >= _BITS * _MOST_DIGITS:
            raise ValueError("run lengths in signs that are none")
        value |= (bits & 31) << shift
        shift += _BITS
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        if len(numbers) > 2:
            value += numbers[-2]
        if value < 0:
            raise ValueError("run lengths below 0")
        numbers.append(value)
        value = shift = 0
    if shift:
        raise ValueError("run lengths that end within a number")
    return numbers
