"""Which detections of an image are right, which are false, and which of its objects are missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.boxes.annotations import Record

# The overlap from which a detection counts, as in AP50.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Found:
    """One detection: its box (x0, y0, x1, y1) in pixels of the image, score, class, and mask, bool (H, W), or None."""

    box: tuple[float, float, float, float]
    score: float
    number: int
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Matches:
    """Positions of detections that are right, that are false, and that lie on what is not evaluated; of annotations that are missed."""

    right: list[int]
    false: list[int]
    ignored: list[int]
    missed: list[int]


def match(found: Sequence[Found], annotations: Sequence[Record], least: float = LEAST_OVERLAP) -> Matches:
    """Match detections to annotated boxes of their class, those of the highest score first, each with the free one that it overlaps most.

    A detection that fits no free box and lies on a crowd region, or on an object marked as difficult, is neither right nor false; such
    objects cannot be missed.
    """
    loose = [bool(a.get("iscrowd") or a.get("difficult")) for a in annotations]
    free = {row for row, skipped in enumerate(loose) if not skipped}
    right, false, ignored = [], [], []
    for at in sorted(range(len(found)), key=lambda row: -found[row].score):
        one = found[at]
        overlaps = {
            row: overlap(one.box, annotation["bbox"], of_first=bool(annotation.get("iscrowd")))
            for row, annotation in enumerate(annotations)
            if annotation["category_id"] == one.number
        }
        best = max((row for row in overlaps if row in free), key=overlaps.__getitem__, default=None)
        if best is not None and overlaps[best] >= least:
            free.discard(best)
            right.append(at)
        elif any(loose[row] and value >= least for row, value in overlaps.items()):
            ignored.append(at)
        else:
            false.append(at)
    return Matches(sorted(right), sorted(false), sorted(ignored), sorted(free))


def overlap(one: Sequence[Any], other: Sequence[Any], *, of_first: bool = False) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1); ``of_first``: over the first one's area, as COCO has it for crowds."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    first = (one[2] - one[0]) * (one[3] - one[1])
    second = (other[2] - other[0]) * (other[3] - other[1])
    return float(inside / (first if of_first else first + second - inside))
