"""Files in COCO's layout: a JSON with ``images``, ``annotations`` and ``categories``, and folders of images."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from zoo.data.boxes.annotations import (
    BAD_MASK,
    CROWD,
    NO_BOX,
    NO_SUCH_IMAGE,
    TWICE,
    UNKNOWN_CLASS,
    Problems,
    Record,
    Split,
    checked_box,
    checked_polygons,
    existing_images,
)
from zoo.data.images import AS_SEEN, Reading
from zoo.data.own.split_names import SPLIT_WORDS
from zoo.errors import UserError
from zoo.reading.outside import read_json

_WORDS = {**SPLIT_WORDS, "trainval": "train"}
_TEST_ORDER = ("test", "val")
_TRIED_IMAGES = 5  # names by which the folder of images is found
HELD_OUT = 4  # of a set without a test file every fourth image is for testing


def read_coco(root: Path, problems: Problems, reading: Reading = AS_SEEN) -> tuple[list[str], Split, Split, bool]:
    """Classes, training split, test split, and whether a part of the only file was held out for testing.

    The files are found by the words train, val and test in their names or their folders' (``annotations/instances_train2017.json``,
    ``train.json``, ``train/_annotations.coco.json``); a file of detections to test on goes before one to validate on. Where there is one
    file only, every fourth image, by the order of file names, is for testing.

    Raises UserError where there is no such file, it is not one, or the two do not have the same classes.
    """
    files = _find_files(root)
    train = files.get("train")
    test = next((files[word] for word in _TEST_ORDER if word in files), None)
    if train is None and len(files) == 1:
        train, test = next(iter(files.values())), None
    if train is None:
        found = ", ".join(path.name for path in files.values()) or "none"
        raise UserError(f"{root} has no COCO annotations to train on: a .json with 'train' in its name (there is: {found})")
    classes, images, skipped = _read_file(root, train, problems, reading)
    if test is None:
        images.sort(key=lambda image: image["file_name"])
        kept = [image for index, image in enumerate(images) if index % HELD_OUT != HELD_OUT - 1]
        held_out = images[HELD_OUT - 1 :: HELD_OUT]
        return classes, Split(train.stem, kept, skipped, reading), Split(f"{train.stem}, every {HELD_OUT}th", held_out, 0, reading), True
    test_classes, test_images, test_skipped = _read_file(root, test, problems, reading)
    if test_classes != classes:
        raise UserError(f"{test} has other classes than {train}: {', '.join(test_classes)}; not {', '.join(classes)}")
    return classes, Split(train.stem, images, skipped, reading), Split(test.stem, test_images, test_skipped, reading), False


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


def _read_file(root: Path, path: Path, problems: Problems, reading: Reading) -> tuple[list[str], list[Record], int]:
    """Classes, the images that are usable, and how many were not."""
    content = load_annotations(path)
    categories = sorted(content.categories, key=lambda category: (isinstance(category.id, str), category.id))
    position = {category.id: index for index, category in enumerate(categories)}
    folder = _image_folder(root, path, [image.file_name for image in content.images])
    records: dict[Any, Record] = {}
    for image in content.images:
        if image.id in records:
            problems.add(TWICE, str(path), f"image id {image.id}")
            continue
        records[image.id] = {
            "file_name": str(folder / image.file_name),
            "image_id": image.id,
            "height": int(image.height),
            "width": int(image.width),
            "annotations": [],
        }
    by_image = defaultdict(list)
    for annotation in content.annotations:
        by_image[annotation.image_id].append(annotation)
    for image_id, entries in by_image.items():
        if image_id not in records:
            for annotation in entries:
                problems.add(NO_SUCH_IMAGE, str(path), f"annotation {annotation.id} of image id {image_id}")
            continue
        record = records[image_id]
        checked = (_checked(annotation, record, position, problems) for annotation in entries)
        record["annotations"] = [annotation for annotation in checked if annotation is not None]
    kept = existing_images(list(records.values()), problems, reading)
    return [str(category.name) for category in categories], kept, len(records) - len(kept)


def _checked(annotation: _Annotation, image: Record, position: dict[Any, int], problems: Problems) -> Record | None:
    where = f"{image['file_name']} (annotation {annotation.id})"
    if annotation.category_id not in position:
        problems.add(UNKNOWN_CLASS, where, f"category id {annotation.category_id}")
        return None
    try:
        x, y, width, height = (float(value) for value in annotation.bbox)
    except (TypeError, ValueError, OverflowError):
        problems.add(NO_BOX, where, repr(annotation.bbox)[:60])
        return None
    box = checked_box([x, y, x + width, y + height], image["height"], image["width"], where, problems)
    if box is None:
        return None
    crowd = int(bool(annotation.iscrowd))
    if crowd:
        problems.add(CROWD, where)
    kept: Record = {"bbox": box, "category_id": position[annotation.category_id], "iscrowd": crowd}
    mask = annotation.segmentation
    if isinstance(mask, dict):
        if _is_run_length(mask):
            kept["segmentation"] = mask
        else:
            problems.add(BAD_MASK, where, repr(mask)[:60])
    elif mask:
        polygons = checked_polygons(mask, where, problems)
        if polygons:
            kept["segmentation"] = polygons
    if annotation.area is not None:
        kept["area"] = float(annotation.area)
    return kept


def _is_run_length(mask: dict[str, Any]) -> bool:
    """Whether a mask has the form of COCO's run lengths: a size, and counts as numbers or compressed."""
    size, counts = mask.get("size"), mask.get("counts")
    numbers = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    return whole and (numbers or isinstance(counts, str))


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    height: int | float
    width: int | float


class _Category(msgspec.Struct):
    id: int | str
    name: str | int


class _Annotation(msgspec.Struct):
    """What an object may say; boxes and masks are looked at one by one, so that a broken one costs itself alone."""

    id: int | str | None = None
    image_id: int | str | None = None
    category_id: int | str | None = None
    bbox: Any = None
    segmentation: Any = None
    iscrowd: bool | int | None = None
    area: int | float | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def load_annotations(path: Path) -> _Content:
    """The content of an annotation file. Raises UserError where it is not one, naming the place in it."""
    content = read_json(path, _Content, "of COCO's annotations: lists 'images', 'annotations' and 'categories'")
    if not content.categories:
        raise UserError(f"{path} names no categories, so there is nothing to detect")
    for position, image in enumerate(content.images):
        if not (image.width >= 1 and image.height >= 1):
            raise UserError(f"{path}: at `$.images[{position}]`: an image of {image.width:g} x {image.height:g} pixels")
    return content


def _image_folder(root: Path, path: Path, names: list[str]) -> Path:
    """The folder that file names in ``path`` are relative to: the first candidate that has one of the first images, else the file's own."""
    base = root if root.is_dir() else path.parent
    stem = path.stem.removeprefix("instances_")
    candidates = [base / stem, base / "images" / stem, path.parent, path.parent / "images", base / "images", base]
    word = next((word for word in re.split(r"[^a-z]+", stem.lower()) if word in _WORDS), None)
    if word:
        candidates += [base / word, base / "images" / word]
    return next((folder for folder in candidates if any((folder / name).is_file() for name in names[:_TRIED_IMAGES])), path.parent)


def write_coco(path: Path, split: Split, classes: list[str]) -> None:
    """Write a split as detectron2's COCO evaluator reads it; image ids are positions in the split, category ids count from 1."""
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
            entries.append(entry)
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": entries, "categories": categories}))
