"""The demo in one picture: test images with their nearest training images before and after the training, and what the log says in between.

    python benchmarks/demo_picture.py DEMO_OUT [--out PNG]

DEMO_OUT is what `make demo` wrote, which calls this at its end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from evaluation.training.log import read_log
from zoo.data import open_data
from zoo.results import Result, load_result

SAME, OTHER, TRAINED, GREY = "#2a9d4e", "#c8382f", "#2f5d8a", "#8a8a8a"
ROWS, NEIGHBOURS = 9, 6
COLOURS = 128
BEFORE, AFTER, PIXELS = "random-resnet10t-", "run", "pixels"


def result_of(folder: Path, name: str) -> Result:
    """The result whose file begins so."""
    found = sorted(folder.glob(f"*{name}*.json"))
    if not found:
        raise SystemExit(f"{folder} has no result of {name}; run `make demo`")
    return load_result(found[0])


def draw_neighbours(figure: Figure, place: Any, result: Result, title: str) -> None:
    """A row for each of the first test images: the image, and its nearest training images, framed by whether they share its class."""
    data = open_data(result.data.spec)
    test, train = data.role("test"), data.role("train")
    shown = result.details["neighbours"]
    grid = place.subgridspec(ROWS, NEIGHBOURS + 1, wspace=0.06, hspace=0.06)
    # The first test image of each class, of which the sheet has two of the first.
    for row, (query, nearest) in enumerate(list(zip(shown["test"], shown["train"], strict=True))[1 : ROWS + 1]):
        for column, (images, index) in enumerate([(test, query), *((train, int(one)) for one in nearest[:NEIGHBOURS])]):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(np.asarray(images.read(int(index))))
            axes.set(xticks=[], yticks=[])
            same = images.labels[index] == test.labels[query]
            for spine in axes.spines.values():
                spine.set(color="black" if column == 0 else SAME if same else OTHER, linewidth=0.8 if column == 0 else 2.2)
            if row == 0 and column == 0:
                axes.set_title(title, fontsize=8.5, loc="left")


def draw_curve(axes: Axes, log: list[dict[str, Any]], levels: dict[str, float], final: float) -> None:
    """kNN accuracy over the steps, from the random network's to the trained one's, beside what raw pixels give; the loss behind it."""
    checks = [(row["step"] + 1, 100 * row["knn_top1"]) for row in log if "knn_top1" in row][:-1]
    points = [(0, levels["random network"]), *checks, (len(log), final)]
    behind = axes.twinx()
    behind.plot([row["step"] for row in log], [row["loss"] for row in log], color=GREY, linewidth=0.7, alpha=0.6)
    behind.set_yticks([])
    behind.set_ylabel("loss (grey)", fontsize=7, color=GREY)
    axes.plot(*zip(*points, strict=True), color=TRAINED, marker="o", markersize=4)
    axes.axhline(levels["raw pixels"], color="black", linewidth=0.8, linestyle=":")
    axes.annotate("raw pixels", (1, levels["raw pixels"]), fontsize=7, va="bottom")
    axes.annotate(f"{final:.1f} %", (len(log), final), fontsize=8, ha="right", va="bottom", xytext=(-6, 3), textcoords="offset points")
    axes.set_title("kNN accuracy, k = 20, 9 classes", fontsize=8.5, loc="left")
    axes.set_xlabel("steps", fontsize=7)
    axes.set_ylabel("%", fontsize=7)
    axes.set_ylim(0, max(60.0, final + 8))
    axes.tick_params(labelsize=7)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, metavar="DEMO_OUT")
    parser.add_argument("--out", type=Path, help="by default DEMO_OUT/demo.png")
    options = parser.parse_args()
    before, after, pixels = (result_of(options.demo / "results", name) for name in (BEFORE, AFTER, PIXELS))
    figure = Figure(figsize=(10.5, 4.2), dpi=90)
    grid = figure.add_gridspec(1, 3, width_ratios=[1.25, 1.25, 1.1], left=0.005, right=0.97, bottom=0.1, top=0.93, wspace=0.14)
    draw_neighbours(figure, grid[0], before, "before: a random network's nearest images")
    draw_neighbours(figure, grid[1], after, "after: the trained network's (green: same class)")
    levels = {"random network": before.headline.value, "raw pixels": pixels.headline.value}
    draw_curve(figure.add_subplot(grid[2]), read_log(options.demo / "run" / "log.jsonl"), levels, after.headline.value)
    path = options.out or options.demo / "demo.png"
    figure.savefig(path)
    # Noise in the images makes a file of true colours three times as large.
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
