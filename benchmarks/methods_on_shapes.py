"""MoCo v2, HCSC and CsMl, alone and together, on `shapes`: the same data, network, epochs and optimizer.

    python benchmarks/methods_on_shapes.py --out DIR [--methods moco,hcsc,csml] [--images 2000] [--epochs 12] [--seeds 3] [--first-seed 0]
        [--set KEY=VALUE ...] [--quick]

--methods: of moco, hcsc, hcsc+ccrop, csml, csml-release (single crop, last level alone, as its authors released it), csml+ccrop and
csml+prototypes; all of them where it is left out. Every network is measured by kNN, and by AMI of k-means (K = the number of labels) with
the labels of every level, on the backbone's features; and along its training by the purity of each training image's 5 nearest neighbours
at every label level, whether or not the method follows neighbours.

Writes DIR/results.json after each run, a picture of the purity (DIR/purity.png) and prints the table. What is in DIR/results.json already
is not run again, so that a long comparison can be made in several calls.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_mutual_info_score
from torch import nn

from evaluation.clustering import kmeans
from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.features import Features, extract_features
from evaluation.search import neighbours_of_all
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.presets import find
from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.survey.neighbours import neighbour_statistics
from zoo.data import open_data
from zoo.model_spec import open_model
from zoo.models.runs import checkpoints
from zoo.models.transforms import EvalTransform

CCROP = ["views.crop=contrastive_crop", "views.alpha=0.6", "boxes.quantile=0.75"]
METHODS = {
    "moco": ("moco_shapes", []),
    "hcsc": ("hcsc_shapes", []),
    "hcsc+ccrop": ("hcsc_shapes", CCROP),
    "csml": ("csml_shapes", []),
    "csml-release": ("csml_shapes", ["method.level4=off", "method.early_mix=true"]),
    "csml+ccrop": ("csml_shapes", CCROP),
    "csml+prototypes": ("csml_prototypes_shapes", []),
}
RANDOM = "random network"
NEIGHBOURS, CURVE_POINTS, TEST_IMAGES, SIDE = 5, 8, 1000, 32
PURITY = "neighbours/purity_"


def features(backbone: nn.Module, data_spec: str, role: str) -> Features:
    data = open_data(data_spec)
    return extract_features(backbone, data.role(role), EvalTransform(SIDE, SIDE, "bilinear", mean=data.mean, std=data.std))


def measure(backbone: nn.Module, data_spec: str, seed: int) -> dict[str, float]:
    """kNN top-1 (k = 20, preset dino) and AMI at each label level, in percent."""
    data = open_data(data_spec)
    bank, queries = (features(backbone, data_spec, role) for role in ("train", "test"))
    preset = find("kNN preset", "dino", KNN_PRESETS)
    assert bank.labels is not None
    assert queries.labels is not None
    found = evaluate_knn(
        bank.features,
        bank.labels,
        queries.features,
        queries.labels,
        k=[20],
        temperature=preset.temperature,
        weight=preset.weight,
        num_classes=len(data.role("train").classes),
    )
    numbers = {"kNN": 100 * found.scores[20].correct / len(queries.labels)}
    for name, level in data.role("train").levels.items():
        clusters = kmeans(nn.functional.normalize(bank.features, dim=1), len(level.classes), seed=seed)
        numbers[f"AMI {name}"] = 100 * adjusted_mutual_info_score(level.labels, clusters.assignment.numpy())
    return numbers


def purity(backbone: nn.Module, data_spec: str) -> dict[str, float]:
    """The share of the nearest training images with the image's own label, for each label level, in percent."""
    bank = features(backbone, data_spec, "train")
    count = len(bank.features)
    similarity, index = neighbours_of_all(bank.features, NEIGHBOURS, total=count, chunk=BATCH_SIZE, normalize=True)
    numbers = neighbour_statistics(index.numpy(), similarity.numpy(), {name: level.labels for name, level in bank.levels.items()})
    return {name.removeprefix(PURITY): 100 * value for name, value in numbers.items() if name.startswith(PURITY)}


def run_one(name: str, seed: int, data: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train by one method, and measure it."""
    recipe, extra = METHODS[name]
    run = options.out / f"{name}_{seed}"
    overrides = [
        f"data={data}", "backbone=resnet10_small", "batch=64", "bn_splits=8", "method.queue=512", f"epochs={options.epochs}",
        "optimizer.name=adamw", "optimizer.lr=2e-3", "optimizer.weight_decay=0.01", f"schedule.warmup_epochs={options.epochs / 6}",
        f"seed={seed}", "trackers=[]", "knn.every_epochs=0", "device=auto", "checkpoint.keep=99",
        f"checkpoint.every_epochs={max(1, options.epochs // CURVE_POINTS)}", *extra, *options.set,
    ]  # fmt: skip
    started = time.perf_counter()
    train(load_recipe(recipe, overrides), run, overwrite=True)
    seconds = time.perf_counter() - started
    log = read_log(run / "log.jsonl")
    steps = len(log) / options.epochs
    curve = []
    for path in checkpoints(run):
        epoch = int(path.stem.split("_")[1]) / steps
        curve.append({"epoch": epoch, **purity(open_model(str(path)).module, data)})
    return {
        "seed": seed,
        **measure(open_model(str(run)).module, data, seed),
        "seconds": seconds,
        "survey_seconds": sum(row.get("survey_seconds", 0.0) for row in log),
        "purity": curve,
        # What the method itself followed: by its key encoder, at the start of the epoch.
        "followed": [{"epoch": row["epoch"], **{key: row[key] for key in row if key.startswith("neighbours/")}} for row in log
                     if "neighbours/similarity" in row],
    }  # fmt: skip


def draw(path: Path, results: dict[str, list[dict[str, Any]]]) -> None:
    """Purity over training, the mean over seeds, one part for each label level."""
    shown = {name: rows for name, rows in results.items() if rows and "purity" in rows[0]}
    levels = [key for key in next(iter(shown.values()))[0]["purity"][0] if key != "epoch"]
    figure = Figure(figsize=(4 * len(levels), 3.6), dpi=130)
    for axes, level in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        for name, rows in shown.items():
            values = np.array([[point[level] for point in row["purity"]] for row in rows])
            axes.plot([point["epoch"] for point in rows[0]["purity"]], values.mean(axis=0), marker="o", markersize=3, label=name)
        start = results.get(RANDOM, [])
        if start:
            axes.axhline(np.mean([row[f"purity {level}"] for row in start]), color="gray", linewidth=0.8, label=RANDOM)
        axes.set(xlabel="epoch", title=f"neighbours of the same {level}, %")
    figure.axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="to share the seeds among several calls")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="further recipe keys of every run, such as precision=bf16"
    )
    parser.add_argument("--quick", action="store_true", help="few images and epochs: does it run at all?")
    options = parser.parse_args()
    if options.quick:
        options.images, options.epochs, options.seeds = 256, 3, 1
    unknown = set(options.methods.split(",")) - METHODS.keys()
    if unknown:
        parser.error(f"there is no method '{min(unknown)}'; there are {', '.join(METHODS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    data = f"shapes:train={options.images},test={TEST_IMAGES}"
    written = options.out / "results.json"
    setting = {"images": options.images, "epochs": options.epochs, "set": options.set}
    known = json.loads(written.read_text()) if written.exists() else {"setting": setting, "results": {}}
    if known["setting"] != setting:
        parser.error(f"{written} is of {known['setting']}, not of {setting}; choose another --out")
    results: dict[str, list[dict[str, Any]]] = known["results"]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in (RANDOM, *options.methods.split(",")):
            if any(row["seed"] == seed for row in results.setdefault(name, [])):
                continue
            if name == RANDOM:
                network = open_model(f"random:resnet10_small:{seed}", image_size=SIDE).module
                pure = {f"purity {level}": value for level, value in purity(network, data).items()}
                results[name].append({"seed": seed, **measure(network, data, seed), **pure})
            else:
                results[name].append(run_one(name, seed, data, options))
                print(name, {key: value for key, value in results[name][-1].items() if key not in ("purity", "followed")}, flush=True)
            written.write_text(json.dumps({"setting": setting, "results": results}, indent=1))
    draw(options.out / "purity.png", results)
    columns = [name for name in results[RANDOM][0] if name != "seed" and not name.startswith("purity")]
    print(f"{'':<16}" + "".join(f"{column:>20}" for column in columns) + "   mean (least .. largest)")
    for name, rows in results.items():
        cells = [np.array([row[column] for row in rows]) for column in columns]
        print(f"{name:<16}" + "".join(f"{values.mean():>7.1f} ({values.min():.1f}..{values.max():.1f})".rjust(20) for values in cells))


if __name__ == "__main__":
    main()
