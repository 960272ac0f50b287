"""MoCo v2, HCSC, and HCSC with ContrastiveCrop on `shapes`: kNN, and AMI of k-means with the labels of every level. Same epochs.

    python benchmarks/hcsc_on_shapes.py --out DIR [--images 2000] [--epochs 12] [--seeds 3] [--first-seed 0] [--quick]

Writes DIR/results.json after each run, and prints the table. AMI is of k-means (K = the number of labels) on the backbone's features of the
training images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score
from torch import nn

from evaluation.clustering import kmeans
from evaluation.features import extract_features
from evaluation.knn import evaluate_knn
from evaluation.knn.presets import KNN_PRESETS
from evaluation.presets import find
from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe
from zoo.data import open_data
from zoo.models import open_model
from zoo.transforms import EvalTransform

CCROP = ["views.crop=contrastive_crop", "views.alpha=0.6", "boxes.quantile=0.75"]
METHODS = {"MoCo v2": ("moco_shapes", []), "HCSC": ("hcsc_shapes", []), "HCSC + C-Crop": ("hcsc_shapes", CCROP)}


def measure(backbone: nn.Module, data_spec: str, seed: int) -> dict[str, float]:
    """kNN top-1 (k = 20, preset dino) and AMI at each label level, in percent."""
    data = open_data(data_spec)
    transform = EvalTransform(32, 32, "bilinear", mean=data.mean, std=data.std)
    bank, queries = (extract_features(backbone, data.role(role), transform) for role in ("train", "test"))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="to share the seeds among several calls")
    parser.add_argument("--quick", action="store_true", help="few images and epochs: does it run at all?")
    options = parser.parse_args()
    if options.quick:
        options.images, options.epochs, options.seeds = 256, 3, 1
    options.out.mkdir(parents=True, exist_ok=True)
    data = f"shapes:train={options.images},test=1000"
    results: dict[str, list[dict[str, Any]]] = {"random network": [], **{name: [] for name in METHODS}}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        network = open_model(f"random:resnet10_small:{seed}", image_size=32).module
        results["random network"].append({"seed": seed, **measure(network, data, seed)})
        for name, (recipe, extra) in METHODS.items():
            run = options.out / f"{recipe}{'_ccrop' if extra else ''}_{seed}"
            overrides = [
                f"data={data}", "backbone=resnet10_small", "batch=64", "bn_splits=8", "method.queue=512", f"epochs={options.epochs}",
                "optimizer.name=adamw", "optimizer.lr=2e-3", "optimizer.weight_decay=0.01", f"schedule.warmup_epochs={options.epochs / 6}",
                f"seed={seed}", "trackers=[]", "knn.every_epochs=0", "device=auto", *extra,
            ]  # fmt: skip
            started = time.perf_counter()
            train(load_recipe(recipe, overrides), run, overwrite=True)
            seconds = time.perf_counter() - started
            surveys = sum(row.get("survey_seconds", 0.0) for row in read_log(run / "log.jsonl"))
            numbers = measure(open_model(str(run)).module, data, seed)
            results[name].append({"seed": seed, **numbers, "seconds": seconds, "survey_seconds": surveys})
            (options.out / "results.json").write_text(json.dumps(results, indent=1))
            print(name, results[name][-1], flush=True)
    columns = [name for name in results["random network"][0] if name != "seed"]
    print(f"{'':<16}" + "".join(f"{column:>18}" for column in columns) + "   mean (least .. largest)")
    for name, rows in results.items():
        cells = [np.array([row[column] for row in rows]) for column in columns]
        print(f"{name:<16}" + "".join(f"{values.mean():>7.1f} ({values.min():.1f}..{values.max():.1f})".rjust(20) for values in cells))


if __name__ == "__main__":
    main()
