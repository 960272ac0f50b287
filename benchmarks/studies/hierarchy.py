"""A study of HCSC: do prototypes help, which part of the method does, and could they?

    python benchmarks/studies/hierarchy.py --work DIR [--arms ...] [--seeds 0-4] [--data shapes] [--optimizer adamw] [--epochs 12]

All arms of a seed start from one learned encoder (SimCLR on the same images, kept in DIR) and make the same number of steps on the same
images in the same order:

moco               MoCo v2
moco_x3            its loss times 3, as HCSC's sum over three levels is where nothing is rejected
prototypes_only    MoCo v2's loss and the prototypes' (no negatives are rejected)
selection_only     negatives are rejected, no loss of prototypes
loss_levels_mean   HCSC with the mean over levels in place of the sum
hcsc               HCSC as published
true_prototypes    HCSC with the true classes of all levels as prototypes: the ceiling
csml               CsMl as released (no second level)
true_neighbours    CsMl with images of the same class as neighbours: the ceiling

Adds a row of each finished run to benchmarks/studies/hierarchy.jsonl; a run whose row is there is not made again, so a study may be
stopped at any time and started again. Seeds come one after the other, all arms of one before the next.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import rows
from arms import levels_of, start_from

from pretrain.loop import train
from pretrain.recipes import load_recipe
from zoo.data import open_data

STUDY = "hierarchy"
FILE = Path(__file__).with_name("hierarchy.jsonl")
ARMS: dict[str, tuple[str, list[str]]] = {
    "moco": ("study_moco", []),
    "moco_x3": ("study_moco_x3", []),
    "hcsc": ("study_hcsc", []),
    "true_prototypes": ("study_true_prototypes", []),
    "prototypes_only": ("study_hcsc", ["method.instance_selection=false"]),
    "selection_only": ("study_hcsc", ["method.prototypes=false"]),
    "loss_levels_mean": ("study_hcsc", ["method.loss_levels=mean"]),
    "csml": ("study_csml", []),
    "true_neighbours": ("study_true_neighbours", []),
}
OPTIMIZERS = {
    "adamw": ["optimizer.name=adamw", "optimizer.lr=1e-3", "optimizer.weight_decay=0.01"],
    "sgd": ["optimizer.name=sgd", "optimizer.lr=0.03", "optimizer.weight_decay=5e-4"],
}
# Data, the network, and epochs of the start.
SETS = {
    "shapes": ("shapes:train=4000,test=5000", ["backbone=resnet10t"], 24),
    "tiny-imagenet-hier100": (None, ["backbone=resnet10t", "views.size=64", "views.channel_permutation=0", "views.invert=0",
                                     "views.vertical_flip=0", "views.hue=0.1", "views.scale=[0.2,1.0]"], 30),
}  # fmt: skip
COMMON = ["precision=bf16", "channels_last=true", "threads=1", "trackers=[]", "device=cpu", "knn.every_epochs=0"]
# Of the steps' own contrast: a queue of half the images, keys that follow within an epoch.
CONTRAST = ["method.queue=2048", "method.momentum=0.99", "method.temperature=0.2", "method.dim=128"]
BATCH = 128


def start(work: Path, name: str, data: str, seed: int, network: list[str], epochs: int) -> Path:
    """The run whose encoder all arms of a seed begin with; made once."""
    run = work / f"start_{name}_{seed}_{epochs}"
    if not (run / "finished").exists():
        own = ["method.hidden=null", "method.head_norm=false", f"epochs={epochs}", "schedule.warmup_epochs=2", "checkpoint.every_epochs=8"]
        train(load_recipe("shapes_demo", [f"data={data}", f"seed={seed}", *network, *COMMON, *own]), run, overwrite=True)
        (run / "finished").touch()
    return run


def run_one(work: Path, arm: str, name: str, data: str, seed: int, optimizer: str, epochs: int, begun: Path) -> rows.Row:
    """Train an arm, measure it, and give its row."""
    method, settings = ARMS[arm]
    levels = open_data(data).role("train").levels
    keys = [f"method.name={method}", *CONTRAST, *settings]
    if method in ("study_hcsc", "study_true_prototypes"):
        keys.append("method.warmup_epochs=0")
    if arm == "true_prototypes":
        fine_to_coarse = levels_of(open_data(data).role("train"))
        keys.append("method.last_prototype=true")
        keys.append(f"method.levels=[{','.join(str(len(levels[level].classes)) for level in fine_to_coarse)}]")
    if method in ("study_csml", "study_true_neighbours"):
        keys += ["method.refresh_epochs=1", "method.cross_epochs=0"]
    start_from(begun)
    run = work / f"{name}_{arm}_{optimizer}_{seed}"
    started = time.perf_counter()
    recipe = load_recipe(
        "moco_shapes",
        [f"data={data}", f"seed={seed}", *SETS[name][1], *COMMON, f"epochs={epochs}", f"batch={BATCH}", "bn_splits=8",
         "schedule.warmup_epochs=1", f"checkpoint.every_epochs={epochs}", *OPTIMIZERS[optimizer], *keys],
    )  # fmt: skip
    train(recipe, run, overwrite=True)
    seconds = time.perf_counter() - started
    images = len(open_data(data).role("train"))
    row = {
        "study": STUDY, "arm": arm, "seed": seed, "data": data if name == "shapes" else name, "optimizer": optimizer,
        "steps": epochs * (images // BATCH), "scores": rows.scores(run, data, seed), "log": rows.explanations(run),
        "seconds": round(seconds, 1), **rows.machine(),
    }  # fmt: skip
    shutil.rmtree(run)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for runs, which are removed when they are measured")
    parser.add_argument("--arms", default=",".join(ARMS), help="with commas between")
    parser.add_argument("--seeds", default="0-4", help="one, or FIRST-LAST")
    parser.add_argument("--data", default="shapes", help="shapes, or tiny-imagenet-hier100:ROOT")
    parser.add_argument("--optimizer", default="adamw", choices=sorted(OPTIMIZERS))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="begin no run after so long")
    parser.add_argument("--file", type=Path, default=FILE, help="where rows are added")
    options = parser.parse_args()
    if unknown := set(options.arms.split(",")) - ARMS.keys():
        parser.error(f"there is no arm '{min(unknown)}'; there are {', '.join(ARMS)}")
    name, _, root = options.data.partition(":")
    if name not in SETS:
        parser.error(f"--data {name}: choose shapes or tiny-imagenet-hier100:ROOT")
    data, network, start_epochs = SETS[name]
    data = data or f"folder:{root}"
    first, _, last = options.seeds.partition("-")
    begun = time.perf_counter()
    images = len(open_data(data).role("train"))
    for seed in range(int(first), int(last or first) + 1):
        for arm in options.arms.split(","):
            key = (STUDY, arm, seed, data if name == "shapes" else name, options.optimizer, options.epochs * (images // BATCH))
            if key in {rows.key_of(row) for row in rows.read_rows(options.file)}:
                continue
            if time.perf_counter() - begun > options.limit_seconds:
                return
            encoder = start(options.work, name, data, seed, network, start_epochs)
            row = run_one(options.work, arm, name, data, seed, options.optimizer, options.epochs, encoder)
            rows.add_row(options.file, row)
            print(f"{arm} {seed}: kNN {row['scores']['knn']:.2f}, linear {row['scores']['linear']:.2f}, {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
