"""Boxes and masks of one's own, whatever file they come from, and what can be wrong with them.

An image is a dict in detectron2's form (``file_name``, ``image_id``, ``height``, ``width``, ``annotations``), an annotation one with
``bbox`` (x0, y0, x1, y1 in pixels, float), ``category_id`` (position in the classes), ``iscrowd`` and, where there is a mask,
``segmentation``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.images import AS_SEEN, BadImageError, ImageFacts, Reading
from zoo.data.images.decode import check_facts
from zoo.data.images.facts import open_image
from zoo.errors import UserError
from zoo.hashing import file_sha256
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
SWAPPED_MASK = "masks of swapped size (width before height; COCO has the height first)"
NO_MASK = "objects without a mask among others that have one (with masks: not trained on, ignored in the evaluation)"
NO_NAME = "objects of a class without a name"
FOUND_BY_NAME = "images found by their name, elsewhere than their annotation says"
SAME_STEM = "images that share their name with a file of another ending"
SHARED_FILE = "entries of an image file that has an entry already (their objects are put together)"
ONE_NAME = "categories that have the name of another (taken as one class)"
IN_BOTH = "test images that are trained on too"
ALL_CROWDS = "objects marked as crowds like all others of the set (taken as ordinary objects)"
CROWD = "crowd regions (not trained on, ignored in the evaluation)"
# These are part of a data set that is in order, and `strict` accepts them.
ACCEPTED = (CROWD,)

# detectron2 cuts boxes at the image's edge; published sets overhang by rounding, which is not worth a word.
OVERHANG_PIXELS = 1.0
FINGERPRINT_IMAGES = 2000
# Key of a record whose image has an orientation by EXIF.
TURNED = "turned"
_THREADS, _PIECE = 8, 64
_HEAD_BYTES = 4096


@dataclass
class Problems:
    """What was found wrong: one line per case, by kind.

    Attributes
    ----------
    cases
        By kind, each ``WHERE: DETAIL``.
    notes
        What was decided about the set as a whole, and a reader of results must know.
    procedure
        2 where numbers are other than those of earlier versions, which rounded or shifted boxes, or counted classes twice.
    refusal
        Why the set as a whole is of no use for training, though it can be looked at.
    """

    cases: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    procedure: int = 1
    refusal: str | None = None

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


def existing_images(images: list[Record], problems: Problems, reading: Reading = AS_SEEN, files: ImageFiles | None = None) -> list[Record]:
    """The records whose image file is there, can be read by its header, and has the size that the record gives.

    A record without a size (0) gets that of the file. An image that is not at its place is looked for by its name in ``files``.
    """
    names = [image["file_name"] for image in images]
    pieces = [names[start : start + _PIECE] for start in range(0, len(names), _PIECE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(chain.from_iterable(pool.map(lambda piece: [_facts(name, reading) for name in piece], pieces)))
    kept = []
    for image, facts in zip(images, found, strict=True):
        name = image["file_name"]
        if facts is None and files is not None and (other := files.find(name)) is not None:
            facts, image = _facts(other, reading), {**image, "file_name": other}
            problems.add(FOUND_BY_NAME, name, other)
        if facts is None:
            problems.add(MISSING_IMAGE, name)
            continue
        if isinstance(facts, str):
            problems.add(UNREADABLE_IMAGE, image["file_name"], facts)
            continue
        width, height = facts.seen_size if reading.exif == "apply" else (facts.width, facts.height)
        if not (image["width"] and image["height"]):
            image = {**image, "width": width, "height": height}
        if (width, height) != (image["width"], image["height"]):
            problems.add(OTHER_SIZE, name, f"{width} x {height}, not {image['width']} x {image['height']}")
        else:
            kept.append({**image, TURNED: True} if facts.orientation != 1 else image)
    return kept


class ImageFiles:
    """The files below a folder by their names, for annotations that name a place of another machine.

    Parameters
    ----------
    root
        The folder; it is looked through when the first name is asked for.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | None:
        """The one file of that name, in any letter case; where several have it, the one whose folders agree best. None: no single one."""
        if self._by_name is None:
            self._by_name = {}
            for folder, _, names in os.walk(self._root):
                for file in names:
                    self._by_name.setdefault(file.lower(), []).append(os.path.join(folder, file))
        wanted = _folders_upwards(name)
        candidates = self._by_name.get(wanted[0], [])
        agreeing = [
            sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, _folders_upwards(path), strict=False)))
            for path in candidates
        ]
        best = [path for path, count in zip(candidates, agreeing, strict=True) if count == max(agreeing)]
        return best[0] if len(best) == 1 else None


def _folders_upwards(name: str) -> list[str]:
    return name.replace("\\", "/").lower().split("/")[::-1]


def note_images_in_both(train: Split, test: Split, problems: Problems) -> None:
    """Count the test images that are trained on too: the same file, or one of the same bytes."""
    files: dict[tuple[int, int], str] = {}
    by_size: dict[int, list[str]] = {}
    for image in train.images:
        facts = os.stat(image["file_name"])
        if files.setdefault((facts.st_dev, facts.st_ino), image["file_name"]) == image["file_name"]:
            by_size.setdefault(facts.st_size, []).append(image["file_name"])
    begun: dict[str, tuple[bytes, bytes]] = {}
    whole: dict[str, str] = {}

    def same(one: str, other: str) -> bool:
        for path in (one, other):
            if path not in begun:
                begun[path] = _ends(path)
        if begun[one] != begun[other]:
            return False
        for path in (one, other):
            if path not in whole:
                whole[path] = file_sha256(path)
        return whole[one] == whole[other]

    for image in test.images:
        path, facts = image["file_name"], os.stat(image["file_name"])
        if (facts.st_dev, facts.st_ino) in files:
            problems.add(IN_BOTH, path)
        elif (twin := next((other for other in by_size.get(facts.st_size, []) if same(path, other)), None)) is not None:
            problems.add(IN_BOTH, path, f"the same bytes as {twin}")


def _ends(path: str) -> tuple[bytes, bytes]:
    with open_file(path) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _HEAD_BYTES))
        return head, file.read(_HEAD_BYTES)


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
