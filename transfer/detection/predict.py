"""What a detector finds in images of one's own: drawn, as COCO's JSON and as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycocotools.mask as coco_masks
from PIL import Image

from evaluation.extraction.image_bar import image_bar
from transfer.detection.drawing import Shown, draw
from transfer.detection.engine.mapper import LayerMapper, read_pixels
from transfer.detection.matching import Found, match
from transfer.detection.network import detect_in, open_detector
from transfer.detection.progress import counted_lines
from transfer.detection.sheet import SHOWN_IMAGES, SHOWN_SCORE, draw_sheet, marked
from zoo.data.boxes.annotations import Record
from zoo.data.boxes.detection_data import open_evaluation_data
from zoo.data.files import list_images
from zoo.data.images import reading_of
from zoo.data.images.endings import read_endings
from zoo.data.inspection.sheet import colour_of
from zoo.data.spec import parse_spec
from zoo.errors import UserError
from zoo.files import new_folder

COCO_FILE, TABLE_FILE, SHEET_FILE, DRAWN_FOLDER, SKIPPED_FILE = "detections.json", "detections.csv", "sheet.png", "drawn", "not_read.txt"
COLUMNS = ("image", "class", "score", "x0", "y0", "x1", "y1")
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Predicted:
    """What was done: images, detections, images that could not be read, and the folder."""

    images: int
    detections: int
    unread: int
    out: Path


def predict(
    run: Path,
    places: Sequence[Path],
    out: Path,
    *,
    data: str | None = None,
    part: str = "test",
    score: float = SHOWN_SCORE,
    batch: int = 1,
    sheet_images: int = SHOWN_IMAGES,
    checkpoint: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    say: Any = print,
) -> Predicted:
    """Detect in images, and write what was found.

    ``out`` gets ``drawn/`` with a picture for each image, ``detections.json`` (COCO's form: images, categories, and annotations with a
    ``score``), ``detections.csv``, ``not_read.txt`` where an image could not be read and, with ``data``, ``sheet.png``.

    Parameters
    ----------
    run, checkpoint, device
        As :func:`transfer.detection.network.open_detector` takes them.
    places
        Image files, and folders with images in and below them. Empty with ``data``.
    data, part
        Annotated images instead, as :func:`~zoo.data.boxes.detection_data.open_evaluation_data` takes them. Right detections, false ones
        and missed objects are marked.
    score
        Detections with a lower score are left out.
    batch
        Images that go through the network at once.
    sheet_images
        How many annotated images the sheet shows.

    Raises
    ------
    UserError
        No run, no images, none that can be read, or a folder ``out`` that may not be replaced.
    """
    if bool(places) == (data is not None):
        raise UserError("name a folder or images to detect in, or annotated ones by --data; not both")
    detector = open_detector(run, checkpoint, device)
    classes = detector.facts.classes
    reading = reading_of(parse_spec(detector.facts.data))
    if data is None:
        named = _named_images(places)
    else:
        found = open_evaluation_data(data, classes, part=part)
        reading = found.test.reading
        named = list(zip(_distinct([Path(image["file_name"]).name for image in found.test.images]), found.test.images, strict=True))
    mapper = LayerMapper(detector.cfg, is_train=False, reading=reading)
    say(f"{detector.checkpoint.name} of {run} on {len(named):,} images, {detector.cfg.MODEL.DEVICE}, score at least {score:g}")
    content: dict[str, list[Record]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(classes)],
    }
    unread: list[str] = []
    told = counted_lines("images", say)
    with new_folder(out, overwrite=overwrite, marker=COCO_FILE) as folder, image_bar("detect", len(named), show=True) as advance:
        with (folder / TABLE_FILE).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            table.writerow([*COLUMNS, "match"] if data is not None else COLUMNS)
            results = detect_in(detector.model, mapper, [record for _, record in named], batch=batch, score=score)
            for done, ((name, _), (record, answer)) in enumerate(zip(named, results, strict=True), start=1):
                advance(1)
                told(done, len(named))
                if isinstance(answer, str):
                    unread.append(f"{record['file_name']}\t{answer}")
                    continue
                image = Image.fromarray(read_pixels(record, reading))
                shown, words = _shown(answer, record, classes, annotated=data is not None)
                _save_drawn(draw(image, shown).picture, folder / DRAWN_FOLDER / name)
                _add(content, name, image.size, answer)
                table.writerows(_rows(name, answer, record, classes, words))
        if len(unread) == len(named):
            raise UserError(f"none of the {len(named):,} images can be read; the first is {unread[0].replace(chr(9), ': ')}")
        (folder / COCO_FILE).write_text(json.dumps({"info": {"description": f"detections of {detector.checkpoint}"}, **content}))
        if unread:
            (folder / SKIPPED_FILE).write_text("".join(f"{line}\n" for line in unread), errors="surrogateescape")
        if data is not None:
            title = f"{detector.facts.model['name']}, {detector.checkpoint.name}, on {part} of {Path(parse_spec(data).place).name}"
            records = [record for _, record in named]
            draw_sheet(folder / SHEET_FILE, detector.model, mapper, records, classes, title, score=score, count=sheet_images)
    return Predicted(len(content["images"]), len(content["annotations"]), len(unread), out)


def _named_images(places: Sequence[Path]) -> list[tuple[str, Record]]:
    """Each image with the name by which it is known: its path below the folder that was given."""
    names, paths = [], []
    for place in places:
        if place.is_dir():
            found = list_images(place, read_endings())
            if not found:
                raise UserError(f"{place} has no images that can be read ({', '.join(read_endings())})")
            above = f"{place.resolve().name}/" if len(places) > 1 else ""
            names += [f"{above}{Path(path).relative_to(place).as_posix()}" for path in found]
            paths += found
        elif place.exists():
            names.append(place.name)
            paths.append(str(place))
        else:
            raise UserError(f"there is no image or folder {place}")
    return [(name, {"file_name": path}) for name, path in zip(_distinct(names), paths, strict=True)]


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that differ: of equal ones, all but the first get a number before the ending."""
    taken: set[str] = set()
    made = []
    for name in names:
        new, number = name, 1
        while new in taken:
            number += 1
            new = str(Path(name).with_name(f"{Path(name).stem}-{number}{Path(name).suffix}"))
        taken.add(new)
        made.append(new)
    return made


def _shown(found: Sequence[Found], record: Record, classes: Sequence[str], *, annotated: bool) -> tuple[list[Shown], list[str] | None]:
    """What to draw, and for each detection whether it is right where that is known."""
    if not annotated:
        return [Shown(one.box, f"{classes[one.number]} {one.score:.2f}", colour_of(one.number), mask=one.mask) for one in found], None
    shown, matches = marked(found, record["annotations"], classes)
    words = ["right"] * len(found)
    for word, rows in (("false", matches.false), ("not evaluated", matches.ignored)):
        for row in rows:
            words[row] = word
    return shown, words


def _save_drawn(picture: Image.Image, path: Path) -> None:
    # An image's own ending stays in the name: two may differ in nothing else.
    path = path if path.suffix.lower() == ".jpg" else path.with_name(f"{path.name}.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="JPEG", quality=_JPEG_QUALITY)


def _add(content: dict[str, list[Record]], name: str, size: tuple[int, int], found: Sequence[Found]) -> None:
    image = len(content["images"]) + 1
    content["images"].append({"id": image, "file_name": name, "width": size[0], "height": size[1]})
    for one in found:
        x0, y0, x1, y1 = one.box
        entry: Record = {
            "id": len(content["annotations"]) + 1,
            "image_id": image,
            "category_id": one.number + 1,
            "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
            "area": round((x1 - x0) * (y1 - y0), 3),
            "iscrowd": 0,
            "score": round(one.score, 6),
        }
        if one.mask is not None:
            coded = coco_masks.encode(one.mask.astype("uint8", order="F"))
            entry |= {"segmentation": {"size": list(coded["size"]), "counts": coded["counts"].decode()}, "area": int(one.mask.sum())}
        content["annotations"].append(entry)


def _rows(name: str, found: Sequence[Found], record: Record, classes: Sequence[str], words: list[str] | None) -> list[list[Any]]:
    """Lines of the table; with annotations, those of missed objects too, which have no score."""
    rows: list[list[Any]] = [[name, classes[one.number], f"{one.score:.6f}", *(f"{value:.2f}" for value in one.box)] for one in found]
    if words is None:
        return rows
    missed = [record["annotations"][row] for row in match(found, record["annotations"]).missed]
    return [
        *([*row, word] for row, word in zip(rows, words, strict=True)),
        *([name, classes[a["category_id"]], "", *(f"{value:.2f}" for value in a["bbox"]), "missed"] for a in missed),
    ]
