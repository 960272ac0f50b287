"""Boxes and masks of one's own, whatever file they come from, and what can be wrong with them.

An image is a dict in detectron2's form (``file_name``, ``image_id``, ``height``, ``width``, ``annotations``), an annotation one with
``bbox`` (x0, y0, x1, y1 in pixels, float), ``category_id`` (position in the classes), ``iscrowd`` and, where there is a mask,
``segmentation``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.images import AS_SEEN, BadImageError, ImageFacts, Reading
from zoo.data.images.decode import check_facts
from zoo.data.images.facts import open_image
from zoo.errors import UserError
from zoo.reading.outside import open_file

Record = dict[str, Any]

# What can be wrong, in the words that counts and lists use.
ZERO_AREA = "boxes of no area"
OUTSIDE = "boxes outside the image"
OVERHANGING = "boxes reaching beyond the image (cut at its edge)"
NO_BOX = "objects without a box of four numbers"
UNKNOWN_CLASS = "objects of an unknown class"
MISSING_IMAGE = "missing images"
UNREADABLE_IMAGE = "images that cannot be opened"
OTHER_SIZE = "images of another size than their annotation says"
MISSING_FILE = "missing annotation files"
UNREADABLE_FILE = "annotation files that cannot be read"
NO_SUCH_IMAGE = "objects of an image that is not listed"
TWICE = "images listed twice"
FEW_POINTS = "polygons of fewer than three points"
BAD_MASK = "masks that are none"
BAD_FLAG = "flags that are neither 0 nor 1"
CROWD = "crowd regions (not trained on, ignored in the evaluation)"
# These are part of a data set that is in order, and `strict` accepts them.
ACCEPTED = (CROWD,)

# detectron2 cuts boxes at the image's edge; published sets overhang by rounding, which is not worth a word.
OVERHANG_PIXELS = 1.0
FINGERPRINT_IMAGES = 2000
# Key of a record whose image has an orientation by EXIF.
TURNED = "turned"
_THREADS = 8
_MIN_POLYGON_NUMBERS = 6
# No coordinate of any image is beyond this.
_ABSURD = 1e9


@dataclass
class Problems:
    """What was found wrong: one line per case, by kind."""

    cases: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str, detail: str = "") -> None:
        self.cases.setdefault(kind, []).append(f"{where}: {detail}" if detail else where)

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(cases) for kind, cases in self.cases.items()}

    def lines(self) -> list[str]:
        """Every case on a line of its own, for a file."""
        return [f"{kind}\t{case}" for kind, cases in self.cases.items() for case in cases]

    def refuse(self, data: str) -> None:
        """Raise UserError where anything is wrong, beyond what belongs to a data set in order."""
        wrong = {kind: cases for kind, cases in self.cases.items() if kind not in ACCEPTED}
        if wrong:
            counts = ", ".join(f"{len(cases)} {kind}" for kind, cases in wrong.items())
            first = next(iter(wrong.values()))[0]
            raise UserError(f"the annotations of '{data}' are broken: {counts}; the first is {first}; mend them, or leave out --strict")


@dataclass
class Split:
    """Images to train on, or to test on.

    Attributes
    ----------
    name
        As the data set calls it, e.g. ``"trainval"``.
    images
        Records, in the order of the files.
    skipped
        Images that are listed and were left out.
    reading
        How the images become RGB. Boxes belong to the picture that it gives.
    """

    name: str
    images: list[Record]
    skipped: int = 0
    reading: Reading = AS_SEEN

    def objects(self, classes: Sequence[str]) -> dict[str, int]:
        """The number of objects of each class, crowd regions not counted."""
        counts = Counter(a["category_id"] for image in self.images for a in image["annotations"] if not a["iscrowd"])
        return {name: counts[index] for index, name in enumerate(classes)}

    def fingerprint(self) -> str:
        """sha256 over all annotations and the bytes of the image files (an even sample of FINGERPRINT_IMAGES when there are more).

        How images are read is part of it only where it changes them: a range, bands, an orientation that is ignored.
        """
        digest = hashlib.sha256(str(len(self.images)).encode())
        changed = [self.reading.range, self.reading.bands]
        if self.reading.exif == "ignore" and any(image.get(TURNED) for image in self.images):
            changed.append((0, 0))
        if any(changed):
            digest.update(repr(changed).encode(errors="surrogateescape"))
        for image in self.images:
            told = [Path(image["file_name"]).name, image["height"], image["width"]]
            objects = [[a["category_id"], a["iscrowd"], [float(v) for v in a["bbox"]], a.get("segmentation")] for a in image["annotations"]]
            digest.update(json.dumps([told, objects], default=repr).encode())
        count = min(len(self.images), FINGERPRINT_IMAGES)
        for index in np.linspace(0, max(len(self.images) - 1, 0), count).round().astype(int):
            digest.update(Path(self.images[index]["file_name"]).read_bytes())
        return digest.hexdigest()


def checked_box(box: Sequence[Any], height: int, width: int, where: str, problems: Problems) -> list[float] | None:
    """A box (x0, y0, x1, y1), cut at the image's edge; None, and a case among the problems, where it is none."""
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError, OverflowError):
        problems.add(NO_BOX, where, repr(box)[:60])
        return None
    text = f"({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        problems.add(NO_BOX, where, text)
    elif x1 <= x0 or y1 <= y0:
        problems.add(ZERO_AREA, where, text)
    elif x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        problems.add(OUTSIDE, where, f"{text} in {width} x {height}")
    else:
        if max(-x0, -y0, x1 - width, y1 - height) > OVERHANG_PIXELS:
            problems.add(OVERHANGING, where, f"{text} in {width} x {height}")
        return [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]
    return None


def checked_polygons(polygons: Any, where: str, problems: Problems) -> list[list[float]]:
    """The polygons with at least three points; the others are cases among the problems."""
    kept: list[list[float]] = []
    if not isinstance(polygons, list):
        problems.add(BAD_MASK, where, repr(polygons)[:60])
        return kept
    for polygon in polygons:
        if isinstance(polygon, list) and not all(type(value) in (int, float) and abs(value) < _ABSURD for value in polygon):
            problems.add(BAD_MASK, where, repr(polygon)[:60])
        elif isinstance(polygon, list) and len(polygon) >= _MIN_POLYGON_NUMBERS and len(polygon) % 2 == 0:
            kept.append([float(value) for value in polygon])
        else:
            problems.add(FEW_POINTS, where, f"{len(polygon) / 2:g} points" if isinstance(polygon, list) else repr(polygon)[:60])
    return kept


def existing_images(images: list[Record], problems: Problems, reading: Reading = AS_SEEN) -> list[Record]:
    """The records whose image file is there, can be read by its header, and has the size that the record gives."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda image: _facts(image["file_name"], reading), images))
    kept = []
    for image, facts in zip(images, found, strict=True):
        name = image["file_name"]
        if facts is None:
            problems.add(MISSING_IMAGE, name)
            continue
        if isinstance(facts, str):
            problems.add(UNREADABLE_IMAGE, name, facts)
            continue
        width, height = facts.seen_size if reading.exif == "apply" else (facts.width, facts.height)
        if (width, height) != (image["width"], image["height"]):
            problems.add(OTHER_SIZE, name, f"{width} x {height}, not {image['width']} x {image['height']}")
        else:
            kept.append({**image, TURNED: True} if facts.orientation != 1 else image)
    return kept


def _facts(path: str, reading: Reading) -> ImageFacts | str | None:
    """What the header says; None for a missing file; the reason for one that cannot be read."""
    try:
        with open_file(path) as file:
            _, facts = open_image(file, turned=reading.exif == "apply")
            check_facts(facts, reading)
            return facts
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror or str(error)
    except (BadImageError, ValueError) as error:  # ValueError: a name that no file can have
        return str(error)
