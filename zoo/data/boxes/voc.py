"""Folders in PASCAL VOC's layout: ``Annotations/ID.xml``, ``JPEGImages/ID.jpg``, ``ImageSets/Main/SPLIT.txt``."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.parsers.expat import ExpatError

import numpy as np

from zoo.data.boxes.annotations import (
    BAD_FLAG,
    MISSING_FILE,
    NO_BOX,
    NO_NAME,
    SAME_STEM,
    TWICE,
    UNKNOWN_CLASS,
    UNREADABLE_FILE,
    ImageFiles,
    Problems,
    Record,
    Split,
    checked_box,
    existing_images,
)
from zoo.data.boxes.forms import begin_at_zero, normalised
from zoo.data.boxes.places import read_xml
from zoo.data.files import composed
from zoo.data.images import AS_SEEN, Reading
from zoo.data.images.endings import read_endings
from zoo.data.outside import whole_number
from zoo.errors import UserError
from zoo.reading.outside import read_bytes, shown

# In the order of the development kit, which detectron2 and published models have too.
VOC_CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
LISTS = Path("ImageSets") / "Main"
_TRUE = ("1", "true", "True")
_FLAGS = ("0", "", "false", "False", *_TRUE)
_TRAIN, _TEST = ("trainval", "train"), ("test", "val")
_LIST_FLAGS = ("-1", "0", "1")
# Of a set without lists every fourth image is for testing.
HELD_OUT = 4
# A power of two, by which single precision multiplies without rounding.
FINE_SCALE = 1 << 16
_YEAR = re.compile(r"VOC(\d{4})")
# Folders of sets whose annotations lie beside their images, as labelling tools export them.
_TRAIN_FOLDERS, _TEST_FOLDERS = ("train", "training"), ("test", "testing", "valid", "val", "validation")


def is_voc(folder: Path) -> bool:
    """Whether a folder has VOC's layout."""
    return (folder / "Annotations").is_dir() and (folder / LISTS).is_dir()


def _annotations(folder: Path) -> Path:
    return found if (found := folder / "Annotations").is_dir() else folder


def _pictures(folder: Path) -> Path:
    return found if (found := folder / "JPEGImages").is_dir() else folder


def _names_beside_images(folder: Path) -> list[str]:
    """The annotations of a folder that holds them beside its images, by name; none of a folder in VOC's layout."""
    return [] if (folder / "Annotations").is_dir() else sorted(path.stem for path in folder.glob("*.xml"))


def _beside_images(root: Path) -> tuple[tuple[Path, str, list[str]], tuple[Path, str, list[str]]] | None:
    """Training and test part of a set with annotations beside the images: in folders named after the splits. None: it is not such a set."""
    found = {}
    for role, known in (("train", _TRAIN_FOLDERS), ("test", _TEST_FOLDERS)):
        folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
        named = [(folders[name], name) for name in known if name in folders and _names_beside_images(folders[name])]
        if named:
            folder, name = named[0]
            found[role] = (folder, name, _names_beside_images(folder))
    return (found["train"], found["test"]) if len(found) == 2 else None


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
        raise UserError(
            f"{root} is not in PASCAL VOC's layout: it needs Annotations/, JPEGImages/ and lists of images in ImageSets/Main/, "
            "or folders train/ and test/ (or valid/) with an XML file beside each image"
        )
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
    count pixels from 1 in the files, corners included; here they are (xmin - 1, ymin - 1, xmax, ymax), as detectron2 has them. A folder
    whose boxes count from 0 (:func:`zoo.data.boxes.forms.begin_at_zero`) gives (xmin, ymin, xmax + 1, ymax + 1). Without lists of images
    every fourth image, by name, is for testing. Annotations may lie beside the images, in folders named after the splits or in one.

    Raises UserError where the layout or a split is missing.
    """
    whole = (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir() and not any((root / LISTS).glob("*.txt"))
    if not whole and (beside := _beside_images(root)) is not None:
        train_parts, test_part, metric_2007 = [beside[0]], beside[1], False
    elif whole or _names_beside_images(root):
        names = sorted(path.stem for path in _annotations(root).glob("*.xml"))
        held_out = names[HELD_OUT - 1 :: HELD_OUT]
        kept = [name for index, name in enumerate(names) if index % HELD_OUT != HELD_OUT - 1]
        problems.notes.append(f"there are no lists of images in {root / LISTS}: every {HELD_OUT}th image, by name, is for testing")
        train_parts, test_part = [(root, "all", kept)], (root, f"all, every {HELD_OUT}th", held_out)
        metric_2007 = False
    else:
        train_found, test_found, metric_2007 = voc_folders(root)
        train_parts = [(folder, split, _listed(folder, split, problems)) for folder, split in train_found]
        test_part = (*test_found, _listed(*test_found, problems))
    files: dict[Path, ImageFiles] = {}
    read = [_read_part(*part, problems, reading, files) for part in (*train_parts, test_part)]
    # Folders of one set count alike; VOC2007 and VOC2012 are sets of their own.
    sets: dict[Path, list[_Part]] = {}
    for part in read:
        sets.setdefault(_set_of(part.folder), []).append(part)
    _to_pixels(list(sets.values()), problems)
    train = [image for part in read[:-1] for image in part.images]
    test = read[-1].images
    named = sorted({annotation["class"] for image in train for annotation in image["annotations"]})
    classes = list(VOC_CLASSES) if set(named) == set(VOC_CLASSES) else named
    for images in (train, test):
        for image in images:
            image["annotations"] = _numbered(image, classes, problems)
    if any(value % 1 for image in test for annotation in image["annotations"] for value in annotation["bbox"]):
        problems.procedure = 2
    name = "+".join(f"{folder.name} {split}" if len(train_parts) > 1 else split for folder, split, _ in train_parts)
    skipped = sum(part.skipped for part in read[:-1])
    return classes, Split(name, train, skipped, reading), Split(test_part[1], test, read[-1].skipped, reading), metric_2007


@dataclass
class _Part:
    """The usable images of a list, their boxes as the files have them, and how many are not usable."""

    folder: Path
    images: list[Record]
    skipped: int


def _numbered(image: Record, classes: list[str], problems: Problems) -> list[Record]:
    kept = []
    for annotation in image["annotations"]:
        name = annotation.pop("class")
        if name in classes:
            kept.append({**annotation, "category_id": classes.index(name)})
        else:
            problems.add(UNKNOWN_CLASS, image["file_name"], f"'{name}' is in no training image")
    return kept


def _listed(folder: Path, split: str, problems: Problems) -> list[str]:
    """The names in a list, as their annotation files are called."""
    known = {path.stem.lower(): path.stem for path in (folder / "Annotations").glob("*.xml")}
    path = folder / LISTS / f"{split}.txt"
    names = [_name_of(line, known) for line in map(str.strip, _text(path).split("\n")) if line]
    for name, count in Counter(names).items():
        if count > 1:
            problems.add(TWICE, str(path), name)
    return list(dict.fromkeys(names))


def _text(path: Path) -> str:
    """A list's text: UTF-16 where its first bytes say so, else UTF-8, else Latin-1, which every byte is a letter of."""
    data = read_bytes(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _name_of(line: str, known: dict[str, str]) -> str:
    """The image that a line names: alone, with blanks in it, with a flag behind (lists of one class), with an ending or a path before."""
    words = line.split()
    whole = [line, " ".join(words[:-1])] if len(words) > 1 and words[-1] in _LIST_FLAGS else [line]
    for text in [*whole, words[0]]:
        name = text.replace("\\", "/").rpartition("/")[2]
        for candidate in (text, name, name.rpartition(".")[0]):
            if (found := known.get(composed(candidate).lower(), known.get(candidate.lower()))) is not None:
                return found
    return whole[-1] if len(words) == 1 or len(whole) > 1 else words[0]


def _read_part(folder: Path, split: str, names: list[str], problems: Problems, reading: Reading, files: dict[Path, ImageFiles]) -> _Part:
    """The usable images of a list."""
    # Of several files of one name, VOC's own kind is the image.
    found = sorted(_pictures(folder).iterdir(), key=lambda path: (path.suffix.lower() == ".jpg", path.name))
    images: dict[str, Path] = {}
    twins: dict[str, Path] = {}
    for path in found:
        if path.suffix.lower() in read_endings():
            if path.stem in images:
                twins[path.stem] = images[path.stem]
            images[path.stem] = path
    by_lower = {stem.lower(): path for stem, path in images.items()}
    records = []
    for name in names:
        if name in twins:
            problems.add(SAME_STEM, str(twins[name]), f"{images[name].name} is taken")
        image = images.get(name) or by_lower.get(name.lower()) or _pictures(folder) / f"{name}.jpg"
        record = _read_xml(folder, name, image, problems)
        if record is not None:
            records.append(record)
    kept = existing_images(records, problems, reading, files.setdefault(folder, ImageFiles(folder)))
    return _Part(folder, kept, len(names) - len(kept))


def _read_xml(folder: Path, name: str, image: Path, problems: Problems) -> Record | None:
    """An image with its objects, boxes as the file has them."""
    path = _annotations(folder) / f"{name}.xml"
    try:
        tree = read_xml(path)
        height, width = (_side(tree.findtext(f"./size/{side}")) for side in ("height", "width"))
    except FileNotFoundError:
        problems.add(MISSING_FILE, str(path))
        return None
    except (ExpatError, ValueError, OSError) as error:
        problems.add(UNREADABLE_FILE, str(path), str(error))
        return None
    if not image.exists() and (told := (tree.findtext("filename") or "").strip()):
        beside = _pictures(folder) / told.replace("\\", "/").rpartition("/")[2]
        image = beside if _is_file(beside) else image
    annotations = []
    for element in tree.findall("object"):
        corners = [element.findtext(f"./bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            box = [float(corner or "") for corner in corners]
        except ValueError:
            problems.add(NO_BOX, str(path), str(corners)[:90])
            continue
        named = composed((element.findtext("name") or "").strip())
        if not named:
            problems.add(NO_NAME, str(path), str(corners)[:90])
            continue
        annotations.append({"class": named, "bbox": box, "iscrowd": 0, "difficult": element.findtext("difficult"), "where": str(path)})
    return {"file_name": str(image), "image_id": f"{folder.name}/{name}", "height": height, "width": width, "annotations": annotations}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except ValueError:  # a name that no file can have
        return False


def _set_of(folder: Path) -> Path:
    return folder if (folder / "Annotations").is_dir() else folder.parent


def _to_pixels(sets: list[list[_Part]], problems: Problems) -> None:
    """Make the files' corners boxes, and leave out what is none; each set counts from 0 or from 1."""
    for parts in sets:
        folder = _set_of(parts[0].folder)
        images = [image for part in parts for image in part.images]
        objects = [(annotation["bbox"], image) for image in images for annotation in image["annotations"]]
        boxes = np.array([box for box, _ in objects], dtype=np.float64).reshape(-1, 4)
        sizes = np.array([[image["width"], image["height"]] for _, image in objects], dtype=np.float64).reshape(-1, 2)
        if (shares := normalised(boxes, sizes)) is not None:
            first = objects[int(shares.argmax())]
            problems.refusal = (
                f"{int(shares.sum())} of {len(boxes)} boxes in {_annotations(folder)} look normalised (0 to 1, in shares of the image), "
                f"the first that of {first[1]['file_name']}; write them in pixels"
            )
        usable = np.isfinite(boxes).all(axis=1)
        from_zero = (zero := begin_at_zero(boxes[usable], sizes[usable])) is not None
        if zero is not None:
            problems.procedure = 2
            problems.notes.append(
                f"the boxes of {folder} count pixels from 0: {int(zero.sum())} begin at 0 and none reaches the image's last pixel from 1; "
                "they are taken so"
            )
        for image in images:
            image["annotations"] = [kept for one in image["annotations"] if (kept := _checked(one, image, from_zero, problems)) is not None]


def _checked(annotation: Record, image: Record, from_zero: bool, problems: Problems) -> Record | None:
    box, where = annotation["bbox"], annotation["where"]
    if not (box[2] <= box[0] or box[3] <= box[1]):
        # Of equal corners detectron2's box is one pixel wide, and trained on; whoever drew it meant nothing.
        box = [box[0], box[1], box[2] + 1, box[3] + 1] if from_zero else [box[0] - 1, box[1] - 1, box[2], box[3]]
    kept = checked_box(box, image["height"], image["width"], where, problems)
    if kept is None:
        return None
    difficult = (annotation["difficult"] or "0").strip()
    if difficult not in _FLAGS:
        problems.add(BAD_FLAG, where, f"'{shown(difficult)}' as difficult, taken for 0")
    return {"class": annotation["class"], "bbox": kept, "iscrowd": 0, "difficult": int(difficult in _TRUE)}


def _side(text: str | None) -> int:
    """A side of an image in pixels; 0 where the file gives none. Raises ValueError for what is no number."""
    number = whole_number((text or "").strip() or "0")
    if number is None:
        raise ValueError(f"'{shown((text or '').strip())}' as a side of the image")
    return number


def voc_scale(split: Split) -> int:
    """By what the boxes of a test set are multiplied for the evaluator: 1 where all are whole pixels.

    The evaluator takes whole numbers only, and overlaps are the same at every scale, so that a larger one keeps fractions of a pixel.
    """
    values = (value for image in split.images for annotation in image["annotations"] for value in annotation["bbox"])
    return 1 if all(float(value).is_integer() for value in values) else FINE_SCALE


def write_voc(folder: Path, split: Split) -> None:
    """Write what detectron2's VOC evaluator reads of a test set: whole corners, every tag that it asks for.

    Images are named by their positions and classes by their numbers: the evaluator makes file names of them, and takes no blanks. The
    list of images is named ``test``. Boxes are multiplied by :func:`voc_scale`.
    """
    scale = voc_scale(split)
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / LISTS).mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(split.images):
        root = ET.Element("annotation")
        for annotation in image["annotations"]:
            element = ET.SubElement(root, "object")
            x0, y0, x1, y1 = (round(value * scale) for value in annotation["bbox"])
            corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
            tags = {"name": annotation["category_id"], "pose": "Unspecified", "truncated": 0, "difficult": annotation["difficult"]}
            for tag, value in tags.items():
                ET.SubElement(element, tag).text = str(value)
            box = ET.SubElement(element, "bndbox")
            for tag, value in corners.items():
                ET.SubElement(box, tag).text = str(value)
        ET.ElementTree(root).write(folder / "Annotations" / f"{index}.xml")
    (folder / LISTS / "test.txt").write_text("".join(f"{index}\n" for index in range(len(split.images))))
