"""A study of HCSC's warm-up, from a random start: a fixed number of epochs, or until clusters last.

    python benchmarks/studies/warmup.py --work DIR [--arms ...] [--seeds 0-2]

moco               `moco_shapes`: MoCo v2
hcsc               `hcsc_shapes`: prototypes after a tenth of the epochs, by the rule
hcsc_start_ami     prototypes from the survey on whose finest clusters have an AMI of .5 with those of the survey before

Adds a row of each finished run to benchmarks/studies/warmup.jsonl; a run whose row is there is not made again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import rows

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe

STUDY = "warmup"
FILE = Path(__file__).with_name("warmup.jsonl")
START_AMI = 0.5
ARMS = {"moco": ("moco_shapes", []), "hcsc": ("hcsc_shapes", []), "hcsc_start_ami": ("hcsc_shapes", [f"method.start_ami={START_AMI}"])}
IMAGES, EPOCHS, BATCH = 4000, 20, 128
DATA = f"shapes:train={IMAGES},test=5000"
COMMON = [
    f"data={DATA}", f"batch={BATCH}", f"epochs={EPOCHS}", f"checkpoint.every_epochs={EPOCHS}", "precision=bf16", "threads=1", "trackers=[]",
    "device=cpu", "knn.every_epochs=0",
]  # fmt: skip


def first_steering(run: Path) -> float | None:
    """The epoch from which on prototypes steered; None where they never did."""
    for row in read_log(run / "log.jsonl"):
        if "prototypes/0/images_min" in row and row.get("prototypes/steer", 1.0):
            return float(row["epoch"])
    return None


def agreements(run: Path) -> list[float]:
    """AMI of the finest clusters of successive surveys."""
    name = "prototypes/0/ami_before"
    return [round(row[name], 4) for row in read_log(run / "log.jsonl") if name in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for runs, which are removed when they are measured")
    parser.add_argument("--arms", default=",".join(ARMS), help="with commas between")
    parser.add_argument("--seeds", default="0-2", help="one, or FIRST-LAST")
    parser.add_argument("--file", type=Path, default=FILE, help="where rows are added")
    options = parser.parse_args()
    if unknown := set(options.arms.split(",")) - ARMS.keys():
        parser.error(f"there is no arm '{min(unknown)}'; there are {', '.join(ARMS)}")
    first, _, last = options.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for arm in options.arms.split(","):
            key = (STUDY, arm, seed, DATA, "adamw", EPOCHS * (IMAGES // BATCH))
            if key in {rows.key_of(row) for row in rows.read_rows(options.file)}:
                continue
            run, (recipe, own) = options.work / f"{arm}_{seed}", ARMS[arm]
            started = time.perf_counter()
            train(load_recipe(recipe, [*COMMON, f"seed={seed}", *own]), run, overwrite=True)
            seconds = time.perf_counter() - started
            row = {
                **dict(zip(rows.KEY, key, strict=True)), "scores": rows.scores(run, DATA, seed), "log": rows.explanations(run),
                "steering_from": first_steering(run), "ami_before": agreements(run), "seconds": round(seconds, 1), **rows.machine(),
            }  # fmt: skip
            rows.add_row(options.file, row)
            shutil.rmtree(run)
            print(f"{arm} {seed}: kNN {row['scores']['knn']:.2f}, {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
