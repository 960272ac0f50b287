"""A contact sheet of detections: what was found rightly, what falsely, and what was missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transfer.detection.drawing import Colour, Shown, contact_sheet, draw
from transfer.detection.engine.mapper import LayerMapper, read_pixels
from transfer.detection.matching import LEAST_OVERLAP, Found, Matches, match
from transfer.detection.network import detect_in
from zoo.data.boxes.annotations import Record
from zoo.files import replace_file

SHOWN_IMAGES = 12
SHOWN_SCORE = 0.5
# Told apart by dashes and words too, for those who see colours otherwise.
RIGHT: Colour = (0, 158, 115)
FALSE: Colour = (213, 94, 0)
MISSED: Colour = (240, 228, 66)
IGNORED: Colour = (150, 150, 150)


def marked(found: Sequence[Found], annotations: Sequence[Record], classes: Sequence[str]) -> tuple[list[Shown], Matches]:
    """What to draw of an image whose objects are known: mistakes first, so that their labels find a place."""
    matches = match(found, annotations)

    def of(at: int, word: str, colour: Colour) -> Shown:
        one = found[at]
        return Shown(one.box, f"{word}{classes[one.number]} {one.score:.2f}", colour, mask=one.mask)

    missed = [
        Shown(tuple(annotations[row]["bbox"]), f"missed {classes[annotations[row]['category_id']]}", MISSED, dashed=True)
        for row in matches.missed
    ]
    false = [of(at, "false ", FALSE) for at in matches.false]
    return [
        *missed,
        *false,
        *(of(at, "", RIGHT) for at in matches.right),
        *(of(at, "not evaluated: ", IGNORED) for at in matches.ignored),
    ], matches


def draw_sheet(
    path: Path,
    model: Any,
    mapper: LayerMapper,
    records: Sequence[Record],
    classes: Sequence[str],
    title: str,
    *,
    score: float = SHOWN_SCORE,
    count: int = SHOWN_IMAGES,
) -> None:
    """Draw what a detector finds in evenly spread annotated images; those that cannot be read are left out.

    Parameters
    ----------
    model, mapper
        A detectron2 model, and its mapper for testing.
    records
        Images with annotations, in detectron2's form.
    score, count
        Of the detections that are drawn, at least; number of images.
    """
    chosen = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int))
    pictures = []
    totals = {"right": 0, "false": 0, "missed": 0}
    lost = 0
    for record, found in detect_in(model, mapper, [records[index] for index in chosen], score=score):
        if isinstance(found, str):
            continue
        shown, matches = marked(found, record["annotations"], classes)
        drawn = draw(Image.fromarray(read_pixels(record, mapper.reading)), shown, most=1000)
        lost += drawn.without_place
        for name in totals:
            totals[name] += len(getattr(matches, name))
        pictures.append((Path(record["file_name"]).name, drawn.picture))
    legend = (
        f"score at least {score:g}; green: found ({totals['right']:,}), orange: false ({totals['false']:,}), "
        f"yellow and dashed: missed ({totals['missed']:,}), grey: not evaluated; an overlap (IoU) of {LEAST_OVERLAP:g} counts"
    )
    if lost:
        legend += f"; {lost:,} labels had no free place"
    sheet = contact_sheet(pictures, [title, legend], side=1000)
    replace_file(path, lambda temporary: sheet.save(temporary, format="PNG"))
