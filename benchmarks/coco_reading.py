"""Time and memory to read COCO annotations: ours, checked, beside pycocotools' own loading.

    python benchmarks/coco_reading.py [--annotations 100000] [--pairs 5]

Writes a set of that many annotations with polygons in a temporary folder, seven on each image as in COCO itself, and reads its training
file by each in turn, in processes of their own. Ours also opens every image's header (of one small file under many names) and reads the
small test set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_PER_IMAGE, _POINTS = 7, 20
_SIZE = (640, 480)


def write_set(root: Path, count: int) -> Path:
    """A COCO set of ``count`` annotations to train on and as few as possible to test on; returns the training file."""
    random = np.random.default_rng(0)
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
    for name, total, colour in (("train", count, 0), ("val", _PER_IMAGE, 255)):
        folder = root / name
        folder.mkdir(parents=True)
        Image.new("RGB", _SIZE, (colour, colour, colour)).save(root / f"{name}.png")
        images, annotations = [], []
        for image in range(-(-total // _PER_IMAGE)):
            os.link(root / f"{name}.png", folder / f"{image:012d}.png")
            images.append({"id": image, "file_name": f"{image:012d}.png", "width": _SIZE[0], "height": _SIZE[1]})
        for number in range(total):
            x, y = random.uniform(0, 400), random.uniform(0, 300)
            outline = (np.array([x, y]) + random.uniform(0, 150, (_POINTS, 2))).round(2)
            (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
            annotations.append(
                {
                    "id": number + 1,
                    "image_id": number // _PER_IMAGE,
                    "category_id": number % 80 + 1,
                    "bbox": [round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round(float((x1 - x0) * (y1 - y0)) / 2, 4),
                    "iscrowd": 0,
                    "segmentation": [outline.ravel().tolist()],
                }
            )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"instances_{name}.json").write_text(json.dumps(content))
    return root / "instances_train.json"


def peak() -> float:
    """The most memory that this process has had, in MB. (``ru_maxrss`` begins with that of the parent.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(kind: str, path: Path) -> None:
    """Print seconds, and the peak of memory in MB above that of the imports, of one reading in this process."""
    if kind == "ours":
        from zoo.data.boxes.detection_data import open_detection_data as read

        place = f"coco:{path.parent}"
    else:
        from pycocotools.coco import COCO as read

        place = str(path)
    before = peak()
    began = time.perf_counter()
    kept = read(place)
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, peak() - before]))
    del kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one[0], Path(arguments.one[1]))
        return
    rows: dict[str, list[list[float]]] = {"pycocotools": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        path = write_set(Path(folder), arguments.annotations)
        for _ in range(arguments.pairs):
            for kind, found in rows.items():
                call = [sys.executable, __file__, "--one", kind, str(path)]
                found.append(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    for kind, found in rows.items():
        seconds, memory = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{kind}: {seconds:.2f} s, {memory:.0f} MB (median of {arguments.pairs})")
    ratios = [[ours / theirs for ours, theirs in zip(a, b, strict=True)] for a, b in zip(rows["ours"], rows["pycocotools"], strict=True)]
    times, memories = zip(*ratios, strict=True)
    said = f"time {statistics.median(times):.2f} ({min(times):.2f} .. {max(times):.2f}), memory {statistics.median(memories):.2f}"
    print(f"ours / pycocotools: {said}")


if __name__ == "__main__":
    main()
