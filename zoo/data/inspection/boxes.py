"""Boxes and masks of an annotated set: counts, sizes, problems with their file and line, and guesses at what a box was meant to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.data.base import FileImages
from zoo.data.boxes.annotations import ACCEPTED, NO_SUCH_IMAGE, OTHER_SIZE, TWICE, UNKNOWN_CLASS, Split
from zoo.data.boxes.detection_data import DetectionData
from zoo.data.boxes.forms import FITTING, begin_at_zero, normalised
from zoo.data.boxes.places import JsonPlaces, LinedElement, read_xml
from zoo.data.entries import FileEntry
from zoo.data.inspection.findings import NAMED, Case, Finding

GUESS = "boxes of another form"
FEW_OBJECTS = "classes without objects"
# COCO's border between small, medium and large objects, in pixels of area (box or mask).
SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
# A guess is made if at least so many boxes make no sense as they are, and nearly all make sense as guessed.
_ODD = 0.05
# No coordinate in pixels is that large; not finite ones are not below it.
_ABSURD = 1e9
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class BoxFacts(msgspec.Struct, frozen=True):
    """What the boxes and masks of a split are.

    Attributes
    ----------
    split
        Its name.
    images, without_objects, left_out
        Images that are used, those of them that show nothing, and those that are listed and not used.
    objects
        Of each class; crowd regions are not counted.
    small, medium, large
        Objects by the area of their box, with COCO's borders of 32 x 32 and 96 x 96 pixels.
    width, height, share
        Least, median and largest width and height of a box in pixels, and share of the image's area in percent.
    most
        Objects of the image that has the most.
    polygons, bitmaps, crowds
        Objects with a mask as polygons, or as run lengths; crowd regions.
    """

    split: str
    images: int
    without_objects: int
    left_out: int
    objects: dict[str, int]
    small: int
    medium: int
    large: int
    width: tuple[float, float, float] | None
    height: tuple[float, float, float] | None
    share: tuple[float, float, float] | None
    most: int
    polygons: int
    bitmaps: int
    crowds: int


@dataclass(frozen=True)
class RawBoxes:
    """Boxes as the files have them.

    Attributes
    ----------
    boxes
        float64 (N, 4): ``xmin, ymin, xmax, ymax`` of VOC, ``x, y, width, height`` of COCO.
    sizes
        float64 (N, 2): width and height of each box's image.
    where
        File and line of each.
    """

    boxes: NDArray[np.float64]
    sizes: NDArray[np.float64]
    where: list[str]


def named_splits(data: DetectionData) -> dict[str, Split]:
    """The two splits by names that differ: their own, or ``train`` and ``test`` where those are one name."""
    names = (data.train.name, data.test.name) if data.train.name != data.test.name else ("train", "test")
    return dict(zip(names, (data.train, data.test), strict=True))


def images_of(name: str, split: Split) -> FileImages:
    """A split's images, for a look at the pictures themselves."""
    return FileImages("boxes", name, (FileEntry(image["file_name"]) for image in split.images), {}, reading=split.reading)


def box_facts(name: str, split: Split, classes: list[str]) -> BoxFacts:
    """The counts of a split."""
    objects = [(image, a) for image in split.images for a in image["annotations"]]
    real = [(image, a) for image, a in objects if not a["iscrowd"]]
    sides = np.array([[a["bbox"][2] - a["bbox"][0], a["bbox"][3] - a["bbox"][1]] for _, a in real], dtype=np.float64).reshape(-1, 2)
    areas = sides.prod(axis=1)
    of_images = np.array([image["width"] * image["height"] for image, _ in real], dtype=np.float64)
    masks = Counter(type(a["segmentation"]) for _, a in real if "segmentation" in a)
    return BoxFacts(
        split=name,
        images=len(split.images),
        without_objects=sum(not image["annotations"] for image in split.images),
        left_out=split.skipped,
        objects=split.objects(classes),
        small=int((areas < SMALL_AREA).sum()),
        medium=int(((areas >= SMALL_AREA) & (areas < MEDIUM_AREA)).sum()),
        large=int((areas >= MEDIUM_AREA).sum()),
        width=_spread(sides[:, 0]),
        height=_spread(sides[:, 1]),
        share=_spread(100 * areas / of_images) if len(real) else None,
        most=max((len(image["annotations"]) for image in split.images), default=0),
        polygons=masks[list],
        bitmaps=masks[dict],
        crowds=len(objects) - len(real),
    )


def box_findings(data: DetectionData, root: Path) -> list[Finding]:
    """Problems of the annotations with file and line, classes that nothing shows, and guesses."""
    places = VocPlaces(root) if data.kind == "voc" else CocoPlaces(root)
    found = []
    for kind, cases in data.problems.cases.items():
        named = tuple(places.of(kind, case) for case in cases[:NAMED])
        found.append(Finding(kind, kind not in ACCEPTED, len(cases), (), f"{len(cases):,} {kind}", named))
    for split_name, split in named_splits(data).items():
        absent = [name for name, count in split.objects(data.classes).items() if not count]
        if absent:
            text = f"{len(absent)} of {len(data.classes)} classes have no object in {split_name}"
            found.append(Finding(FEW_OBJECTS, True, len(absent), (split_name,), text, tuple(Case((name,)) for name in absent[:NAMED])))
    return found + guesses(data.kind, places.raw())


# ---------------------------------------------------------------- guesses


def guesses_at(kind: str, root: Path) -> list[Finding]:
    """Guesses by the files alone, which need not be in order otherwise."""
    return guesses(kind, (VocPlaces(root) if kind == "voc" else CocoPlaces(root)).raw())


def guesses(kind: str, raw: RawBoxes) -> list[Finding]:
    """What the boxes look like, where they do not look like what the format says."""
    if not len(raw.boxes):
        return []
    return _of_voc(raw) if kind == "voc" else _of_coco(raw)


def _of_voc(raw: RawBoxes) -> list[Finding]:
    x0, y0, x1, y1 = raw.boxes.T
    width, height = raw.sizes.T
    as_is: NDArray[np.bool_] = (x1 > x0) & (y1 > y0) & (x1 <= width + 1) & (y1 <= height + 1)
    if (found := _normalised(raw)) is not None:
        return [found]
    sized = (x1 > 0) & (y1 > 0) & (x0 + x1 <= width + 1) & (y0 + y1 <= height + 1)
    if _better(sized, as_is):
        return [_guess(raw, ~as_is, "these boxes look like (x, y, width, height); VOC wants the corners xmin, ymin, xmax, ymax")]
    if (found := _turned(raw, as_is)) is not None:
        return [found]
    zero = begin_at_zero(raw.boxes, raw.sizes)
    if zero is not None:
        text = (
            f"these boxes look 0-based: {int(zero.sum()):,} begin at 0 and none reaches the image's last pixel; VOC counts from 1, and "
            "`transfer` takes the set as counting from 0"
        )
        return [_guess(raw, zero, text)]
    return []


def _of_coco(raw: RawBoxes) -> list[Finding]:
    x, y, across, down = raw.boxes.T
    width, height = raw.sizes.T
    as_is: NDArray[np.bool_] = (across > 0) & (down > 0) & (x + across <= width + 1) & (y + down <= height + 1)
    if (found := _normalised(raw)) is not None:
        return [found]
    corners = (across > x) & (down > y) & (across <= width + 1) & (down <= height + 1)
    if _better(corners, as_is):
        return [_guess(raw, ~as_is, "these boxes look like corners (x0, y0, x1, y1); COCO wants (x, y, width, height)")]
    turned = _turned(raw, as_is)
    return [] if turned is None else [turned]


def _normalised(raw: RawBoxes) -> Finding | None:
    """Boxes in shares of the image."""
    unit = normalised(raw.boxes, raw.sizes)
    if unit is None:
        return None
    return _guess(raw, unit, "these boxes look normalised (0 to 1, in shares of the image); they must be in pixels")


def _turned(raw: RawBoxes, as_is: NDArray[np.bool_]) -> Finding | None:
    """Boxes with rows before columns, told by images that are not square."""
    boxes, (width, height) = raw.boxes[:, [1, 0, 3, 2]], raw.sizes.T
    inside = (boxes[:, 0] <= width + 1) & (boxes[:, 1] <= height + 1) & (boxes[:, 2] <= width + 1) & (boxes[:, 3] <= height + 1)
    if not _better(inside & (raw.boxes > 0).any(axis=1), as_is):
        return None
    return _guess(raw, ~as_is, "these boxes look like rows before columns (y before x)")


def _better(guessed: NDArray[np.bool_], as_is: NDArray[np.bool_]) -> bool:
    return bool((~as_is).mean() >= _ODD and guessed.mean() >= FITTING)


def _guess(raw: RawBoxes, chosen: NDArray[np.bool_], text: str) -> Finding:
    rows = np.flatnonzero(chosen)[:NAMED]
    cases = tuple(Case((raw.where[row],), f"({', '.join(f'{value:g}' for value in raw.boxes[row])})") for row in rows)
    return Finding(GUESS, True, int(chosen.sum()), (), f"{int(chosen.sum()):,} of {len(raw.boxes):,} boxes: {text}", cases)


# ---------------------------------------------------------------- lines


class VocPlaces:
    """File and line of what stands in annotations of VOC's layout."""

    def __init__(self, root: Path) -> None:
        folders = [root, root / "VOC2007", root / "VOC2012"]
        self._folders = [folder / "Annotations" for folder in folders if (folder / "Annotations").is_dir()]

    def raw(self) -> RawBoxes:
        """Every box of every file, those that are broken included where they are four numbers."""
        boxes, sizes, where = [], [], []
        for path in (path for folder in self._folders for path in sorted(folder.glob("*.xml"))):
            for element, box, size in _voc_objects(path):
                if box is not None and size is not None:
                    boxes.append(box)
                    sizes.append(size)
                    where.append(f"{path}:{element.line}")
        return _raw(boxes, sizes, where)

    def of(self, kind: str, case: str) -> Case:
        """A problem's case, as its reader wrote it, with the line."""
        name, _, detail = case.partition(": ")
        if kind == TWICE:
            return Case((_line_of_word(Path(name), detail),), detail)
        path = Path(name)
        if path.suffix != ".xml":
            # A problem of an image: its annotation is what names it.
            path = next((folder / f"{path.stem}.xml" for folder in self._folders if (folder / f"{path.stem}.xml").is_file()), path)
        if kind == OTHER_SIZE:
            size = _root(path)
            element = None if size is None else size.find("size")
            return Case((f"{path}:{element.line}" if isinstance(element, LinedElement) else str(path),), f"{name}: {detail}")
        for element, box, _ in _voc_objects(path):
            corners = str([element.findtext(f"./bndbox/{corner}") for corner in _CORNERS])
            texts = [corners, f"'{(element.findtext('name') or '').strip()}' is in no training image" if kind == UNKNOWN_CLASS else corners]
            if box is not None:
                texts += [_text(box), _text([box[0] - 1, box[1] - 1, box[2], box[3]])]
            if any(detail.startswith(text) for text in texts):
                return Case((f"{path}:{element.line}",), detail)
        return Case((str(path),) if path == Path(name) else (str(path), name), detail)


class CocoPlaces:
    """File and line of what stands in annotation files of COCO's layout."""

    def __init__(self, root: Path) -> None:
        folder = root if root.is_dir() else root.parent
        paths = [root] if root.is_file() else [*folder.glob("annotations/*.json"), *folder.glob("*.json"), *folder.glob("*/*.json")]
        self._files = [(path, places) for path in dict.fromkeys(sorted(paths)) if (places := _json_places(path)) is not None]

    def raw(self) -> RawBoxes:
        """Every box of every file that is four numbers."""
        boxes, sizes, where = [], [], []
        for path, places in self._files:
            images = {image.get("id"): image for image, _ in _objects(places, "images")}
            for annotation, at in _objects(places, "annotations"):
                image, box = images.get(annotation.get("image_id"), {}), annotation.get("bbox")
                if isinstance(box, list) and _numbers(box, 4) and _numbers([image.get("width"), image.get("height")], 2):
                    boxes.append([float(value) for value in box])
                    sizes.append([float(image["width"]), float(image["height"])])
                    where.append(f"{path}:{places.place(at)}")
        return _raw(boxes, sizes, where)

    def of(self, kind: str, case: str) -> Case:
        """A problem's case, as its reader wrote it, with the line."""
        name, _, detail = case.partition(": ")
        image, _, number = name.partition(" (annotation ")
        if kind == NO_SUCH_IMAGE:
            number = detail.removeprefix("annotation ").partition(" of image id ")[0] + ")"
        for path, places in self._files:
            if kind in (NO_SUCH_IMAGE, TWICE) and str(path) != name:
                continue
            images = {entry.get("id"): entry for entry, _ in _objects(places, "images")}
            if number:
                for annotation, at in _objects(places, "annotations"):
                    shown = str(images.get(annotation.get("image_id"), {}).get("file_name", ""))
                    if f"{annotation.get('id')})" == number and (kind == NO_SUCH_IMAGE or image.endswith(shown)):
                        told = f"annotation {number[:-1]} of {Path(image).name}: {detail}"
                        return Case((f"{path}:{places.place(at)}",), told.rstrip(": "))
                continue
            found = [at for entry, at in _objects(places, "images") if _is_named(entry, kind, image, detail)]
            if found:
                return Case((f"{path}:{places.place(found[-1])}",), case)
        return Case((name,), detail)


def _is_named(entry: dict[str, Any], kind: str, image: str, detail: str) -> bool:
    if kind == TWICE:
        return detail == f"image id {entry.get('id')}"
    named = str(entry.get("file_name", ""))
    return named != "" and image.endswith(named)


def _objects(places: JsonPlaces, key: str) -> Iterator[tuple[dict[str, Any], int]]:
    return ((entry, at) for entry, at in places.entries.get(key, []) if isinstance(entry, dict))


def _json_places(path: Path) -> JsonPlaces | None:
    """The entries of an annotation file; None for another JSON file, or what is none."""
    try:
        places = JsonPlaces(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError, RecursionError):
        return None
    return places if "images" in places.entries and "annotations" in places.entries else None


def _root(path: Path) -> LinedElement | None:
    try:
        return read_xml(path)
    except (OSError, expat.ExpatError, IndexError):
        return None


def _voc_objects(path: Path) -> Iterator[tuple[LinedElement, list[float] | None, list[float] | None]]:
    """Each object of a file with its corners, and the image's size."""
    root = _root(path)
    if root is None:
        return
    size = _floats([root.findtext("./size/width"), root.findtext("./size/height")])
    for element in root.findall("object"):
        assert isinstance(element, LinedElement)
        yield element, _floats([element.findtext(f"./bndbox/{corner}") for corner in _CORNERS]), size


def _floats(texts: list[str | None]) -> list[float] | None:
    try:
        values = [float(text or "") for text in texts]
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _numbers(values: list[Any], count: int) -> bool:
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return len(values) == count and plain and all(abs(value) < _ABSURD for value in values)


def _text(box: list[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"


def _line_of_word(path: Path, word: str) -> str:
    """The last line of a list that begins with a word."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return str(path)
    found = [number for number, line in enumerate(lines, start=1) if line.split()[:1] == [word]]
    return f"{path}:{found[-1]}" if found else str(path)


def _raw(boxes: list[list[float]], sizes: list[list[float]], where: list[str]) -> RawBoxes:
    return RawBoxes(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(sizes, dtype=np.float64).reshape(-1, 2), where)


def _spread(values: NDArray[np.float64]) -> tuple[float, float, float] | None:
    if not len(values):
        return None
    return round(float(values.min()), 2), round(float(np.median(values)), 2), round(float(values.max()), 2)
