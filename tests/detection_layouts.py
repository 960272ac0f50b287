"""`shapes` in the layouts of VOC and COCO: pictures of four shapes each, with their true boxes and masks."""

from __future__ import annotations

import json
from pathlib import Path

import contourpy
import numpy as np
from PIL import Image

from zoo.data import open_data

SIDE = 32  # of one shape; a picture is two by two


def pictures(split: str, count: int):
    """For each picture uint8 (64, 64, 3) pixels, and (class, box (x0, y0, x1, y1), mask) of each of its four shapes."""
    images = open_data(f"shapes:train={4 * count},test={4 * count},size={SIDE}").split(split)
    classes, labels, masks = images.level("class").classes, images.level("class").labels, images.extras["masks"]
    for first in range(0, 4 * count, 4):
        canvas = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
        objects = []
        for cell in range(4):
            top, left = SIDE * (cell // 2), SIDE * (cell % 2)
            canvas[top : top + SIDE, left : left + SIDE] = images.pixels[first + cell]
            mask = np.zeros((2 * SIDE, 2 * SIDE), bool)
            mask[top : top + SIDE, left : left + SIDE] = masks[first + cell]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            objects.append((classes[labels[first + cell]], box, mask))
        yield canvas, objects


def as_voc(root: Path, train: int = 8, test: int = 4) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, name, count in (("train", "trainval", train), ("test", "test", test)):
        lines = []
        for index, (pixels, objects) in enumerate(pictures(split, count)):
            key = f"{name}_{index:03d}"
            lines.append(key)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{key}.jpg", quality=95)
            write_xml(root / "Annotations" / f"{key}.xml", [(label, (x0 + 1, y0 + 1, x1, y1)) for label, (x0, y0, x1, y1), _ in objects])
        (root / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_xml(path: Path, objects, size: tuple[int, int] = (2 * SIDE, 2 * SIDE)) -> None:
    """An annotation as VOC's tools write it: corners count from 1."""
    text = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for label, box in objects
    )
    path.write_text(f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>{text}</annotation>")


def as_coco(root: Path, train: int = 8, test: int = 4) -> Path:
    for split, name, count in (("train", "train", train), ("test", "val", test)):
        (root / name).mkdir(parents=True, exist_ok=True)
        content = {"images": [], "annotations": [], "categories": []}
        names = open_data("shapes:train=1,test=1").split("train").level("class").classes
        # Ids with gaps, as COCO's own are.
        content["categories"] = [{"id": 3 * number + 2, "name": label} for number, label in enumerate(names)]
        for index, (pixels, objects) in enumerate(pictures(split, count)):
            Image.fromarray(pixels).save(root / name / f"{index}.png")
            content["images"].append({"id": 100 + index, "file_name": f"{index}.png", "height": 2 * SIDE, "width": 2 * SIDE})
            for label, (x0, y0, x1, y1), mask in objects:
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": 100 + index,
                        "category_id": 3 * names.index(label) + 2,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": [polygon.ravel().tolist() for polygon in outlines(mask)],
                    }
                )
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return root


def outlines(mask) -> list:
    """Outer outlines of a mask, (x, y) of points at the middles of pixels' edges."""
    padded = np.pad(mask.astype(float), 1)
    lines = contourpy.contour_generator(z=padded).lines(0.5)
    return [np.clip(line - 0.5, 0, mask.shape[0]) for line in lines if len(line) >= 4]
