"""Where do the boxes lie, and what do they change? On `shapes`, whose true boxes and masks are known.

    python benchmarks/boxes_on_shapes.py --out DIR [--images 5000] [--epochs 20] [--seed 0] [--precision fp32] [--quick]

Trains SimCLR three times, with RandomResizedCrop, and with ContrastiveCrop by the published threshold and by a quantile. At every fifth of
each run it locates the objects by the weights of that moment: overlap (IoU) with the true boxes, the boxes' mean area, and the share of
crops without a single pixel of the object, which make false positives. Writes DIR/boxes.json, a picture (DIR/boxes.png) and the contact
sheet of the last boxes of the last run (DIR/sheet.png).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from evaluation.training.log import read_log
from evaluation.views.samplers import ContrastiveCrop, CropSampler, RandomResizedCrop
from pretrain.loop import train
from pretrain.pictures.boxes import boxes_of_run, draw_boxes
from pretrain.recipes import load_recipe
from pretrain.survey.boxes import areas, locate, overlap
from zoo.data import ArrayImages, open_data
from zoo.model_spec import open_model
from zoo.models.runs import checkpoints
from zoo.randomness import uniforms

PLAIN, BY_THRESHOLD, BY_QUANTILE = "RandomResizedCrop", "ContrastiveCrop, threshold 0.1", "ContrastiveCrop, quantile 0.75"
# What each run adds to the common recipe.
RUNS = {
    PLAIN: ["views.crop=random_resized_crop"],
    BY_THRESHOLD: ["views.crop=contrastive_crop", "boxes.threshold=0.1"],
    BY_QUANTILE: ["views.crop=contrastive_crop", "boxes.quantile=0.75"],
}
COLOURS = dict(zip(RUNS, ("#4878a8", "#d1662b", "#4f9a55"), strict=True))
SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
RULES: dict[str, dict[str, Any]] = {
    "threshold 0.1": {"threshold": 0.1},
    "quantile 0.5": {"quantile": 0.5},
    "quantile 0.75": {"quantile": 0.75},
}
PAIRS = 8  # pairs of crops per image


def visible(images: ArrayImages, crops: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which share of its image's object each crop (N, 4) shows."""
    masks = images.extras["masks"].astype(np.int64)
    total = np.zeros((len(masks), masks.shape[1] + 1, masks.shape[2] + 1), dtype=np.int64)
    total[:, 1:, 1:] = masks.cumsum(1).cumsum(2)
    rows, (top, left, height, width) = np.arange(len(masks)), crops.T
    bottom, right = top + height, left + width
    inside = total[rows, bottom, right] - total[rows, top, right] - total[rows, bottom, left] + total[rows, top, left]
    return inside / total[:, -1, -1]


def crop_statistics(images: ArrayImages, sampler: CropSampler, boxes: NDArray[np.float32] | None, seed: int) -> dict[str, float]:
    """Shares of crops, and of pairs of views, that show too little of the object; and the overlap of a pair."""
    sizes = np.broadcast_to(np.array(images.pixels.shape[1:3]), (len(images), 2))
    shown, both = [], []
    for pair in range(PAIRS):
        address = {"index": np.arange(len(images)), "epoch": pair}
        drawn = [sampler(sizes, uniforms(seed, "crops of a benchmark", sampler.draws, **address, view=view), boxes) for view in range(2)]
        shown.append([visible(images, crops) for crops in drawn])
        corners = [np.concatenate([crops[:, :2], crops[:, :2] + crops[:, 2:]], axis=1).astype(np.float32) for crops in drawn]
        both.append(overlap(corners[0], corners[1]))
    seen = np.array(shown)  # (pairs, 2, images)
    return {
        "no object": float((seen == 0).mean()),
        "under a fifth": float((seen < 0.2).mean()),
        "pairs with a view without object": float((seen == 0).any(axis=1).mean()),
        "object visible": float(seen.mean()),
        "IoU of the two views": float(np.mean(both)),
    }


def box_quality(images: ArrayImages, checkpoint: Path, rule: dict[str, Any]) -> tuple[NDArray[np.float32], dict[str, float]]:
    model = open_model(str(checkpoint))
    assert model.mean is not None
    assert model.std is not None
    boxes, located = locate(model.module, images, side=images.pixels.shape[1], mean=model.mean, std=model.std, **rule)
    truth: Any = images.extras["boxes"]
    full = areas(boxes) >= ((images.pixels.shape[1] - 1) / images.pixels.shape[1]) ** 2 - 1e-6
    numbers = {"IoU": float(overlap(boxes, truth).mean()), "area": float(areas(boxes).mean()), "full": float(full.mean())}
    return boxes, numbers | {"unlocated": float((~located).mean())}


def folder_of(name: str, options: argparse.Namespace) -> Path:
    return Path(options.out / name.lower().replace(", ", "_").replace(" ", "_"))


def run_one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train with one kind of crop, and measure its checkpoints."""
    folder = folder_of(name, options)
    data = f"shapes:train={options.images},test=1000"
    overrides = [
        f"data={data}", "backbone=resnet10_small", *RUNS[name], "views.scale=[0.2,1.0]", "views.alpha=0.6", "batch=128",
        f"epochs={options.epochs}", f"seed={options.seed}", f"schedule.warmup_epochs={options.epochs / 6}", "device=auto", "trackers=[]",
        f"checkpoint.every_epochs={max(1, options.epochs // 5)}", "checkpoint.keep=99", f"knn.every_epochs={options.epochs}",
        f"precision={options.precision}",
    ]  # fmt: skip
    started = time.perf_counter()
    train(load_recipe("shapes_demo", overrides), folder, overwrite=True)
    seconds = time.perf_counter() - started
    log = read_log(folder / "log.jsonl")
    images = open_data(data).role("pretrain")
    assert isinstance(images, ArrayImages)
    rows = []
    for checkpoint in checkpoints(folder):
        epoch = round((int(checkpoint.stem.split("_")[1])) / (len(log) / options.epochs))
        for rule, arguments in RULES.items():
            boxes, numbers = box_quality(images, checkpoint, arguments)
            samplers = {f"alpha {alpha:g}": ContrastiveCrop(SCALE, RATIO, alpha) for alpha in (0.6, 0.1)}
            made = {alpha: crop_statistics(images, sampler, boxes, options.seed) for alpha, sampler in samplers.items()}
            rows.append({"epoch": epoch, "rule": rule, **numbers, "crops": made})
    surveys = sum(row.get("survey_seconds", 0.0) for row in log)
    knn = [row["knn_top1"] for row in log if "knn_top1" in row][-1]
    return {"rows": rows, "seconds": seconds, "survey_seconds": surveys, "knn_top1": knn}


def draw(path: Path, results: dict[str, Any], floor: dict[str, Any], truth: dict[str, Any], full_iou: float) -> None:
    figure = Figure(figsize=(9.5, 4.4), dpi=130)
    left, right = figure.subplots(1, 2)
    styles = dict(zip(RULES, ("-", "--", ":"), strict=True))
    for name, colour in COLOURS.items():
        for rule, style in styles.items():
            rows = [row for row in results[name]["rows"] if row["rule"] == rule]
            epochs = [row["epoch"] for row in rows]
            look = {"marker": "o", "markersize": 3, "color": colour, "linestyle": style}
            left.plot(epochs, [row["IoU"] for row in rows], **look)
            if name != PLAIN:
                right.plot(epochs, [100 * row["crops"]["alpha 0.6"]["no object"] for row in rows], **look)
    left.axhline(full_iou, color="gray", linewidth=0.8)
    left.annotate("the whole image as box", (0.98, full_iou), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    for value, text in ((floor, "crops by RandomResizedCrop"), (truth, "crops by ContrastiveCrop, true boxes")):
        right.axhline(100 * value["no object"], color="gray", linewidth=0.8)
        place = (0.02, 100 * value["no object"])
        right.annotate(text, place, xycoords=("axes fraction", "data"), ha="left", va="bottom", fontsize=7)
    left.set(xlabel="epoch", title="IoU of boxes with the true boxes")
    right.set(xlabel="epoch", title="crops without any of the object, % (alpha 0.6)", ylim=(0, None))
    runs = [Line2D([], [], color=colour, label=f"trained with {name}") for name, colour in COLOURS.items()]
    rules = [Line2D([], [], color="black", linestyle=style, label=f"boxes by {rule}") for rule, style in styles.items()]
    figure.legend(handles=[*runs, *rules], loc="lower center", ncols=2, fontsize=7)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--quick", action="store_true", help="few images and epochs: does it run at all?")
    options = parser.parse_args()
    if options.quick:
        options.images, options.epochs = 256, 5
    options.out.mkdir(parents=True, exist_ok=True)
    images = open_data(f"shapes:train={options.images},test=1000").role("pretrain")
    assert isinstance(images, ArrayImages)
    known: Any = images.extras["boxes"]
    whole = np.broadcast_to(np.array([0, 0, 1, 1], dtype=np.float32), known.shape)
    plain = crop_statistics(images, RandomResizedCrop(SCALE, RATIO), None, options.seed)
    references = {
        f"alpha {alpha:g}": {
            "true boxes": crop_statistics(images, ContrastiveCrop(SCALE, RATIO, alpha), known, options.seed),
            "whole image": crop_statistics(images, ContrastiveCrop(SCALE, RATIO, alpha), whole, options.seed),
        }
        for alpha in (1.0, 0.6, 0.1)
    }
    results = {name: run_one(name, options) for name in RUNS}
    report = {"RandomResizedCrop": plain, "references": references, "runs": results, "full IoU": float(overlap(whole, known).mean())}
    (options.out / "boxes.json").write_text(json.dumps(report, indent=1))
    draw(options.out / "boxes.png", results, plain, references["alpha 0.6"]["true boxes"], report["full IoU"])
    draw_boxes(options.out / "sheet.png", boxes_of_run(folder_of(BY_QUANTILE, options), 40))
    print(f"mean area of the true boxes {areas(known).mean():.3f}; IoU of the whole image with them {report['full IoU']:.3f}")
    print(f"{'crops by':<70}{'no object':>10}{'< 1/5':>8}{'pairs':>8}{'visible':>9}{'IoU':>7}   (%; IoU of two views)")
    lines = {"RandomResizedCrop": plain}
    lines |= {f"ContrastiveCrop {alpha}, {what}": numbers for alpha, both in references.items() for what, numbers in both.items()}
    for run in (BY_THRESHOLD, BY_QUANTILE):
        last = [row for row in results[run]["rows"] if row["epoch"] == options.epochs]
        for row in last:
            lines |= {f"{run}: {alpha}, last boxes, {row['rule']}": numbers for alpha, numbers in row["crops"].items()}
    for name, numbers in lines.items():
        values = list(numbers.values())
        print(f"{name:<70}" + "".join(f"{100 * value:>8.2f}" for value in values[:4]) + f"{values[4]:>8.3f}")
    for name, result in results.items():
        seconds, surveys, knn = result["seconds"], result["survey_seconds"], 100 * result["knn_top1"]
        print(f"trained with {name}: {seconds:.0f} s, surveys {surveys:.1f} s, kNN top-1 {knn:.1f} %")
        for row in result["rows"]:
            numbers = f"IoU {row['IoU']:.3f}  area {row['area']:.3f}  full {100 * row['full']:.1f} %"
            print(f"  epoch {row['epoch']:>3}  {row['rule']:<14} {numbers}")


if __name__ == "__main__":
    main()
