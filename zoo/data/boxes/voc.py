"""Folders in PASCAL VOC's layout: ``Annotations/ID.xml``, ``JPEGImages/ID.jpg``, ``ImageSets/Main/SPLIT.txt``."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from xml.parsers.expat import ExpatError

from zoo.data.boxes.annotations import (
    BAD_FLAG,
    MISSING_FILE,
    NO_BOX,
    TWICE,
    UNKNOWN_CLASS,
    UNREADABLE_FILE,
    Problems,
    Record,
    Split,
    checked_box,
    existing_images,
)
from zoo.data.boxes.places import read_xml
from zoo.data.files import composed
from zoo.data.images import AS_SEEN, Reading
from zoo.data.images.endings import read_endings
from zoo.data.outside import read_lines, whole_number
from zoo.errors import UserError
from zoo.reading.outside import shown

# In the order of the development kit, which detectron2 and published models have too.
VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
LISTS = Path("ImageSets") / "Main"
_TRUE = ("1", "true", "True")
_FLAGS = ("0", "", "false", "False", *_TRUE)
_TRAIN, _TEST = ("trainval", "train"), ("test", "val")
_YEAR = re.compile(r"VOC(\d{4})")


def is_voc(folder: Path) -> bool:
    """Whether a folder has VOC's layout."""
    return (folder / "Annotations").is_dir() and (folder / LISTS).is_dir()


def voc_folders(root: Path) -> tuple[list[tuple[Path, str]], tuple[Path, str], bool]:
    """What to train on, what to test on, and whether AP is that of 2007 (11 points).

    A folder with ``VOC2007`` and ``VOC2012`` in it is VOC07+12: both trainval splits, 2007's test.

    Raises UserError where the layout or a split is missing.
    """
    both = [root / "VOC2007", root / "VOC2012"]
    if all(map(is_voc, both)):
        return [(folder, "trainval") for folder in both], (both[0], "test"), True
    if not is_voc(root) and is_voc(both[0]):
        root = both[0]
    if not is_voc(root) or not (root / "JPEGImages").is_dir():
        raise UserError(f"{root} is not in PASCAL VOC's layout: it needs Annotations/, JPEGImages/ and lists of images in ImageSets/Main/")
    lists = {path.stem for path in (root / LISTS).glob("*.txt")}
    train = next((name for name in _TRAIN if name in lists), None)
    test = next((name for name in _TEST if name in lists), None)
    if train == "trainval" and test == "val":
        train = "train" if "train" in lists else None
    if train is None or test is None:
        found = ", ".join(sorted(lists)) or "none"
        raise UserError(f"{root / LISTS} needs a list to train on (trainval or train) and one to test on (test or val); it has {found}")
    year = _YEAR.fullmatch(root.resolve().name)
    return [(root, train)], (root, test), year is not None and year[1] == "2007"


def read_voc(root: Path, problems: Problems, reading: Reading = AS_SEEN) -> tuple[list[str], Split, Split, bool]:
    """Classes, training split, test split, and whether AP is that of 2007.

    The classes are those of the training annotations in alphabetical order; VOC's twenty have their own. Boxes
    count pixels from 1 in the files, corners included; here they are (xmin - 1, ymin - 1, xmax, ymax), as detectron2 has them.

    Raises UserError where the layout or a split is missing, or nothing is left to train or to test on.
    """
    train_parts, test_part, metric_2007 = voc_folders(root)
    parts = [_read_split(folder, split, problems, reading) for folder, split in train_parts]
    train = [image for images, _ in parts for image in images]
    test, test_skipped = _read_split(*test_part, problems, reading)
    named = sorted({annotation["class"] for image in train for annotation in image["annotations"]})
    classes = list(VOC_CLASSES) if set(named) == set(VOC_CLASSES) else named
    for images in (train, test):
        for image in images:
            image["annotations"] = _numbered(image, classes, problems)
    name = "+".join(f"{folder.name} {split}" if len(train_parts) > 1 else split for folder, split in train_parts)
    skipped = sum(count for _, count in parts)
    return classes, Split(name, train, skipped, reading), Split(test_part[1], test, test_skipped, reading), metric_2007


def _numbered(image: Record, classes: list[str], problems: Problems) -> list[Record]:
    kept = []
    for annotation in image["annotations"]:
        name = annotation.pop("class")
        if name in classes:
            kept.append({**annotation, "category_id": classes.index(name)})
        else:
            problems.add(UNKNOWN_CLASS, image["file_name"], f"'{name}' is in no training image")
    return kept


def _read_split(folder: Path, split: str, problems: Problems, reading: Reading) -> tuple[list[Record], int]:
    """The usable images of a split, and how many are not."""
    path = folder / LISTS / f"{split}.txt"
    # A line may hold more than the name: lists of one class have a flag.
    names = [line.split()[0] for _, line in read_lines(path)]
    for name, count in Counter(names).items():
        if count > 1:
            problems.add(TWICE, str(path), name)
    # Of several files of one name, VOC's own kind is the image.
    found = sorted((folder / "JPEGImages").iterdir(), key=lambda path: (path.suffix.lower() == ".jpg", path.name))
    images = {path.stem: path for path in found if path.suffix.lower() in read_endings()}
    records = []
    for name in dict.fromkeys(names):
        record = _read_xml(folder, name, images.get(name, folder / "JPEGImages" / f"{name}.jpg"), problems)
        if record is not None:
            records.append(record)
    kept = existing_images(records, problems, reading)
    return kept, len(set(names)) - len(kept)


def _read_xml(folder: Path, name: str, image: Path, problems: Problems) -> Record | None:
    path = folder / "Annotations" / f"{name}.xml"
    try:
        tree = read_xml(path)
        height, width = (_side(tree.findtext(f"./size/{side}")) for side in ("height", "width"))
    except FileNotFoundError:
        problems.add(MISSING_FILE, str(path))
        return None
    except (ExpatError, ValueError, OSError) as error:
        problems.add(UNREADABLE_FILE, str(path), str(error))
        return None
    annotations = []
    for element in tree.findall("object"):
        corners = [element.findtext(f"./bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            box = [float(corner or "") for corner in corners]
        except ValueError:
            problems.add(NO_BOX, str(path), str(corners))
            continue
        if box[2] <= box[0] or box[3] <= box[1]:
            # Of equal corners detectron2's box is one pixel wide, and trained on; whoever drew it meant nothing.
            kept = checked_box(box, height, width, str(path), problems)
        else:
            kept = checked_box([box[0] - 1, box[1] - 1, box[2], box[3]], height, width, str(path), problems)
        if kept is not None:
            difficult = (element.findtext("difficult") or "0").strip()
            if difficult not in _FLAGS:
                problems.add(BAD_FLAG, str(path), f"'{shown(difficult)}' as difficult, taken for 0")
            name_of = composed((element.findtext("name") or "").strip())
            annotations.append({"class": name_of, "bbox": kept, "iscrowd": 0, "difficult": int(difficult in _TRUE)})
    return {"file_name": str(image), "image_id": f"{folder.name}/{name}", "height": height, "width": width, "annotations": annotations}


def _side(text: str | None) -> int:
    """A side of an image in pixels. Raises ValueError where the file gives none."""
    number = whole_number((text or "").strip())
    if not number:
        raise ValueError(f"'{shown((text or '').strip())}' as a side of the image" if text else "no size")
    return number


def write_voc(folder: Path, split: Split) -> None:
    """Write what detectron2's VOC evaluator reads of a test set: whole corners, every tag that it asks for.

    Images are named by their positions and classes by their numbers: the evaluator makes file names of them, and takes no blanks. The
    list of images is named ``test``.
    """
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / LISTS).mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(split.images):
        root = ET.Element("annotation")
        for annotation in image["annotations"]:
            element = ET.SubElement(root, "object")
            x0, y0, x1, y1 = (round(value) for value in annotation["bbox"])
            corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
            tags = {"name": annotation["category_id"], "pose": "Unspecified", "truncated": 0, "difficult": annotation["difficult"]}
            for tag, value in tags.items():
                ET.SubElement(element, tag).text = str(value)
            box = ET.SubElement(element, "bndbox")
            for tag, value in corners.items():
                ET.SubElement(box, tag).text = str(value)
        ET.ElementTree(root).write(folder / "Annotations" / f"{index}.xml")
    (folder / LISTS / "test.txt").write_text("".join(f"{index}\n" for index in range(len(split.images))))
