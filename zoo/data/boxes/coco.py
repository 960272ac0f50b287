"""Files in COCO's layout: a JSON with ``images``, ``annotations`` and ``categories``, and folders of images."""

from __future__ import annotations

import gc
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zoo.data.boxes.annotations import (
    ALL_CROWDS,
    BAD_FLAG,
    CROWD,
    NO_BOX,
    NO_MASK,
    NO_NAME,
    NO_SUCH_IMAGE,
    ONE_NAME,
    SHARED_FILE,
    TWICE,
    UNKNOWN_CLASS,
    ImageFiles,
    Problems,
    Record,
    Split,
    checked_box,
    existing_images,
)
from zoo.data.boxes.forms import FITTING, normalised
from zoo.data.boxes.masks import box_of_mask, checked_mask
from zoo.data.files import composed
from zoo.data.images import AS_SEEN, Reading
from zoo.data.own.split_names import SPLIT_WORDS
from zoo.errors import UserError
from zoo.reading.outside import read_json

_WORDS = {**SPLIT_WORDS, "trainval": "train"}
_TEST_ORDER = ("test", "val")
_TRUE = ("1", "True", "true", "1.0")
_FLAGS = (*_TRUE, "0", "False", "false", "0.0", "")
# No image has a longer side.
_MOST_PIXELS = 1 << 24
_NUMBERS = {int, float}
# More boxes than this share of them in pixels: not all are in shares of the image.
_ODD = 1 - FITTING
_TRIED_IMAGES = 5  # names by which the folder of images is found
HELD_OUT = 4  # of a set without a test file every fourth image is for testing


def read_coco(root: Path, problems: Problems, reading: Reading = AS_SEEN) -> tuple[list[str], Split, Split, bool]:
    """Classes, training split, test split, and whether a part of the only file was held out for testing.

    The files are found by the words train, val and test in their names or their folders' (``annotations/instances_train2017.json``,
    ``train.json``, ``train/_annotations.coco.json``); a file of detections to test on goes before one to validate on. Where there is one
    file only, every fourth image, by the order of file names, is for testing.

    Raises UserError where there is no such file, it is not one, or the two do not have the same classes.
    """
    # Python's collector looks through all objects again and again while they grow to millions, which doubles the time.
    collected = gc.isenabled()
    gc.disable()
    try:
        return _read(root, problems, reading)
    finally:
        if collected:
            gc.enable()


def _read(root: Path, problems: Problems, reading: Reading) -> tuple[list[str], Split, Split, bool]:
    files = _find_files(root)
    train = files.get("train")
    test = next((files[word] for word in _TEST_ORDER if word in files), None)
    if train is None and len(files) == 1:
        train, test = next(iter(files.values())), None
    if train is None:
        found = ", ".join(path.name for path in files.values()) or "none"
        raise UserError(f"{root} has no COCO annotations to train on: a .json with 'train' in its name (there is: {found})")
    trained = load_annotations(train, problems)
    if trained.annotations is None:
        raise UserError(f"{train} has no list 'annotations', so there is nothing to train on")
    tested = None
    for path in (files[word] for word in _TEST_ORDER if word in files and files[word] != train):
        content = load_annotations(path, problems)
        if content.annotations is not None:
            test, tested = path, content
            break
        problems.notes.append(f"{path} has no annotations, and is not used")
    classes = _Classes(train, trained, None if tested is None else tested.annotations, problems)
    crowds = all(_is_true(one.iscrowd) for part in (trained, tested) if part is not None for one in part.annotations or ())
    image_files = ImageFiles(root if root.is_dir() else root.parent)
    images, skipped = _read_file(root, train, trained, classes.numbers(train, trained, problems), crowds, problems, reading, image_files)
    if tested is None or test is None:
        images.sort(key=lambda image: image["file_name"])
        kept = [image for index, image in enumerate(images) if index % HELD_OUT != HELD_OUT - 1]
        held_out = images[HELD_OUT - 1 :: HELD_OUT]
        name = train.stem
        return classes.names, Split(name, kept, skipped, reading), Split(f"{name}, every {HELD_OUT}th", held_out, 0, reading), True
    numbers = classes.numbers(test, tested, problems)
    if not any(number is not None for number in numbers.values()):
        theirs = ", ".join(str(category.name) for category in tested.categories)
        raise UserError(f"{test} has other classes than {train}: {theirs}; not {', '.join(classes.names)}")
    test_images, test_skipped = _read_file(root, test, tested, numbers, crowds, problems, reading, image_files)
    return classes.names, Split(train.stem, images, skipped, reading), Split(test.stem, test_images, test_skipped, reading), False


class _Classes:
    """The classes of a set, by the categories of its training file: their order is that of the ids.

    Raises UserError for one id that stands for two names.
    """

    def __init__(self, path: Path, content: _Content, test: list[_Annotation] | None, problems: Problems) -> None:
        categories = _by_id(path, content, problems)
        used = {annotation.category_id for annotation in [*(content.annotations or ()), *(test or ())]}
        root = _group_of_all(categories, used)
        if root is not None:
            problems.notes.append(f"the category '{root.name}' of {path} has no objects and names the group of all others: it is no class")
            categories = [category for category in categories if category is not root]
        self.names: list[str] = []
        for category in categories:
            name = _name_of(category)
            if name in self.names:
                problems.add(ONE_NAME, str(path), f"category id {category.id} is '{name}' too")
                problems.procedure = 2
            elif name:
                self.names.append(name)

    def numbers(self, path: Path, content: _Content, problems: Problems) -> dict[Any, int | None]:
        """The class of each category id of a file, by its name; None where it has none: no name, or not one of these."""
        position = {name: index for index, name in enumerate(self.names)}
        return {category.id: position.get(_name_of(category)) for category in _by_id(path, content, Problems())}


def _by_id(path: Path, content: _Content, problems: Problems) -> list[_Category]:
    found: dict[Any, _Category] = {}
    for category in sorted(content.categories, key=lambda category: (isinstance(category.id, str), category.id)):
        first = found.setdefault(category.id, category)
        if first is category:
            continue
        if _name_of(first) != _name_of(category):
            raise UserError(
                f"{path}: category id {category.id} stands for '{_name_of(first)}' and for '{_name_of(category)}'; "
                "give each class an id of its own"
            )
        problems.add(ONE_NAME, str(path), f"category id {category.id} stands there twice")
    return list(found.values())


def _name_of(category: _Category) -> str:
    return "" if category.name is None else composed(str(category.name).strip())


def _group_of_all(categories: list[_Category], used: set[Any]) -> _Category | None:
    """The category that Roboflow writes before the classes: no object has it, and it is the supercategory of all others."""
    for category in categories:
        others = [other for other in categories if other is not category]
        top = category.supercategory in (None, "", "none") and category.name is not None and category.id not in used
        if others and top and all(other.supercategory == category.name for other in others):
            return category
    return None


def _find_files(root: Path) -> dict[str, Path]:
    """The annotation files by role; the only file of a folder whose name says nothing has the role ``""``."""
    if root.is_file():
        return {"": root}
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    found: dict[str, Path] = {}
    others = []
    # COCO's folder of annotations holds captions and keypoints too.
    paths = sorted((root / "annotations").glob("instances_*.json")) or sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    for path in paths:
        words = re.split(r"[^a-z]+", f"{path.parent.name if path.parent != root else ''} {path.stem}".lower())
        role = next((_WORDS[word] for word in words[::-1] if word in _WORDS), None)
        if role is None:
            others.append(path)
        else:
            found.setdefault(role, path)
    if not found and len(others) == 1:
        found[""] = others[0]
    if not found:
        raise UserError(f"{root} has no COCO annotations: no .json in it or one folder below{' says train, val or test' if others else ''}")
    return found


def _read_file(
    root: Path,
    path: Path,
    content: _Content,
    numbers: dict[Any, int | None],
    all_crowds: bool,
    problems: Problems,
    reading: Reading,
    image_files: ImageFiles,
) -> tuple[list[Record], int]:
    """The images that are usable, and how many were not."""
    folder = _image_folder(root, path, [image.file_name for image in content.images])
    records: dict[Any, Record] = {}
    for image in content.images:
        if image.id in records:
            problems.add(TWICE, str(path), f"image id {image.id}")
            continue
        name = image.file_name if os.sep == "\\" or "\\" not in image.file_name else _forward(folder, image.file_name)
        records[image.id] = {
            "file_name": str(folder / name),
            "image_id": image.id,
            "height": int(image.height or 0),
            "width": int(image.width or 0),
            "annotations": [],
        }
    by_image = defaultdict(list)
    for annotation in content.annotations or ():
        by_image[annotation.image_id].append(annotation)
    for image_id in by_image.keys() - records.keys():
        for annotation in by_image[image_id]:
            problems.add(NO_SUCH_IMAGE, str(path), f"annotation {annotation.id} of image id {image_id}")
    kept: dict[str, Record] = {}
    usable = existing_images(list(records.values()), problems, reading, image_files)
    names = {category.id: _name_of(category) for category in content.categories}
    without: list[str] = []
    for record in usable:
        checked = (
            _checked(annotation, record, numbers, names, all_crowds, problems, without)
            for annotation in by_image.get(record["image_id"], ())
        )
        record["annotations"] = [annotation for annotation in checked if annotation is not None]
        first = kept.setdefault(record["file_name"], record)
        if first is not record:
            problems.add(SHARED_FILE, record["file_name"], f"image ids {first['image_id']} and {record['image_id']}")
            problems.procedure = 2
            first["annotations"] += [annotation for annotation in record["annotations"] if annotation not in first["annotations"]]
    if any("segmentation" in annotation for record in kept.values() for annotation in record["annotations"]):
        for where in without:
            problems.add(NO_MASK, where)
    return list(kept.values()), len(records) - len(usable)


def _forward(folder: Path, name: str) -> str:
    """A name with backslashes as a path of this machine, unless a file is really called so."""
    return name if os.path.isfile(folder / name) else name.replace("\\", "/")


def _checked(
    annotation: _Annotation,
    image: Record,
    numbers: dict[Any, int | None],
    names: dict[Any, str],
    all_crowds: bool,
    problems: Problems,
    without: list[str],
) -> Record | None:
    """An object as a record; None, and a case among the problems, where it is none. Those that give no mask are added to ``without``."""
    where = f"{image['file_name']} (annotation {annotation.id})"
    number = numbers.get(annotation.category_id)
    if number is None:
        name = names.get(annotation.category_id)
        if name == "":
            problems.add(NO_NAME, where, f"category id {annotation.category_id}")
        else:
            known = f" ('{name}' is no class of the training file)" if name else ""
            problems.add(UNKNOWN_CLASS, where, f"category id {annotation.category_id}{known}")
        return None
    mask = checked_mask(annotation.segmentation, image, where, problems)
    boxless = not annotation.bbox or annotation.bbox == [0, 0, 0, 0]
    box = box_of_mask(mask) if mask is not None and boxless else _corners(annotation.bbox)
    if box is None:
        problems.add(NO_BOX, where, repr(annotation.bbox)[:60])
        return None
    box = checked_box(box, image["height"], image["width"], where, problems)
    if box is None:
        return None
    flag = annotation.iscrowd
    if flag is not None and str(flag) not in _FLAGS:
        problems.add(BAD_FLAG, where, f"{repr(flag)[:60]} as iscrowd, taken for 0")
    crowd = int(_is_true(flag))
    if crowd and all_crowds:
        problems.add(ALL_CROWDS, where)
        crowd = 0
    elif crowd:
        problems.add(CROWD, where)
    kept: Record = {"bbox": box, "category_id": number, "iscrowd": crowd}
    if mask is not None:
        kept["segmentation"] = mask
    elif not annotation.segmentation and not crowd:
        without.append(where)
    if type(annotation.area) in (int, float) and 0 <= annotation.area < math.inf:
        kept["area"] = float(annotation.area)
    return kept


def _corners(box: Any) -> list[float] | None:
    """(x0, y0, x1, y1) of x, y, width, height; None where those are not four numbers."""
    if type(box) is not list or len(box) != 4 or not set(map(type, box)) <= _NUMBERS:
        return None
    try:
        x, y, width, height = map(float, box)
    except OverflowError:
        return None
    return [x, y, x + width, y + height]


def _is_true(flag: Any) -> bool:
    return str(flag) in _TRUE


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    height: int | float | None = None
    width: int | float | None = None


class _Category(msgspec.Struct):
    id: int | str
    name: str | int | None = None
    supercategory: Any = None


class _Annotation(msgspec.Struct, gc=False):
    """What an object may say; boxes, masks and flags are looked at one by one, so that a broken one costs itself alone."""

    id: int | str | None = None
    image_id: int | str | None = None
    category_id: int | str | None = None
    bbox: Any = None
    segmentation: Any = None
    iscrowd: Any = None
    area: Any = None


class _Content(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] | None = None


def load_annotations(path: Path, problems: Problems) -> _Content:
    """The content of an annotation file. Raises UserError where it is not one, naming the place in it."""
    content = read_json(path, _Content, "of COCO's annotations: lists 'images', 'annotations' and 'categories'")
    if not content.categories:
        raise UserError(f"{path} names no categories, so there is nothing to detect")
    for position, image in enumerate(content.images):
        width, height = (0 if side is None else side for side in (image.width, image.height))
        if not (0 <= width < _MOST_PIXELS and 0 <= height < _MOST_PIXELS):
            raise UserError(f"{path}: at `$.images[{position}]`: an image of {width:g} x {height:g} pixels")
    _refuse_shares(path, content, problems)
    return content


def _refuse_shares(path: Path, content: _Content, problems: Problems) -> None:
    left = _ODD * len(content.annotations or ())
    for annotation in content.annotations or ():
        corners = _corners(annotation.bbox)
        left -= corners is not None and max(annotation.bbox) > 1
        if left < 0:  # too many for shares; most files end here after a few
            return
    sizes_of: dict[Any, tuple[float, float]] = {image.id: (image.width or 0, image.height or 0) for image in content.images}
    boxes, sizes = [], []
    for annotation in content.annotations or ():
        if (box := annotation.bbox) and (corners := _corners(box)) is not None and math.isfinite(sum(corners)):
            boxes.append(box)
            # An image whose size the file does not give is no smaller than this.
            sizes.append([side or 3 for side in sizes_of.get(annotation.image_id, (0, 0))])
    corner = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    if (shares := normalised(corner, np.array(sizes, dtype=np.float64).reshape(-1, 2))) is not None:
        first = ", ".join(f"{value:g}" for value in corner[int(shares.argmax())])
        problems.refusal = (
            f"{int(shares.sum())} of {len(boxes)} boxes in {path} look normalised (0 to 1, in shares of the image), the first is "
            f"({first}); write them in pixels"
        )


def _image_folder(root: Path, path: Path, names: list[str]) -> Path:
    """The folder that file names in ``path`` are relative to: the first candidate that has one of the first images, else the file's own."""
    base = root if root.is_dir() else path.parent
    stem = path.stem.removeprefix("instances_")
    candidates = [base / stem, base / "images" / stem, path.parent, path.parent / "images", base / "images", base]
    word = next((word for word in re.split(r"[^a-z]+", stem.lower()) if word in _WORDS), None)
    if word:
        candidates += [base / word, base / "images" / word]
    return next((folder for folder in candidates if any(os.path.isfile(folder / name) for name in names[:_TRIED_IMAGES])), path.parent)


def write_coco(path: Path, split: Split, classes: list[str], *, masks: bool = False) -> None:
    """Write a split as detectron2's COCO evaluator reads it; image ids are positions in the split, category ids count from 1.

    Parameters
    ----------
    masks
        Whether masks are evaluated. Objects without one are then regions that the evaluation ignores, in the form of their box: neither
        to find them nor to miss them counts.
    """
    images: list[Record] = []
    entries: list[Record] = []
    for index, image in enumerate(split.images):
        images.append({"id": index, "file_name": image["file_name"], "height": image["height"], "width": image["width"]})
        for annotation in image["annotations"]:
            x0, y0, x1, y1 = annotation["bbox"]
            entry = {
                "id": len(entries) + 1,
                "image_id": index,
                "category_id": annotation["category_id"] + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": annotation.get("area", (x1 - x0) * (y1 - y0)),
                "iscrowd": annotation["iscrowd"],
            }
            if "segmentation" in annotation:
                entry["segmentation"] = annotation["segmentation"]
            elif masks:
                entry |= {"iscrowd": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            entries.append(entry)
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": entries, "categories": categories}))
