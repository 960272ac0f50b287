"""A study of ContrastiveCrop: what its boxes bring, and what its law of crop centres.

    python benchmarks/studies/crops.py --work DIR --cifar ROOT --photographs FOLDER [--arms ...] [--seeds 0-4] [--epochs 3]

Objects of CIFAR-10 lie in blurred photographs (pasted.py), so that a crop can miss the object, and the true boxes are known. All arms of a
seed start from one encoder (SimCLR with RandomResizedCrop on the same images, kept in DIR) and go on with SimCLR for the same number of
steps on the same images in the same order; only crops differ:

random             RandomResizedCrop
whole_box          centres by the Beta law with alpha .6, the box is the whole image
true_uniform       centres in the true box, uniform (alpha 1)
true_beta          centres in the true box, alpha .6: the ceiling
threshold_.1       boxes of the surveys by the published threshold, alpha .6
threshold_.5       by a threshold of .5
quantile_.75       by the quantile .75 of each map

The network is a narrow ResNet-10 whose last map is 4 x 4 at 32 pixels. Adds a row of each finished run to benchmarks/studies/crops.jsonl; a
run whose row is there is not made again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pasted
import rows
import timm
from numpy.typing import NDArray
from timm.models import PretrainedCfg, build_model_with_cfg
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

import pretrain.loop
from evaluation.parallel import Processes
from evaluation.views.tables import BOXES
from pretrain.methods import METHODS, RunFacts
from pretrain.methods.simclr import SimCLR
from pretrain.recipes import load_recipe
from pretrain.survey.boxes import BoxMaker, box_statistics
from zoo.models.runs import latest_checkpoint, read_checkpoint

STUDY = "crops"
FILE = Path(__file__).with_name("crops.jsonl")
FOLLOW = ["views.crop=contrastive_crop", "views.alpha=0.6", "boxes.every_epochs=1", "boxes.warmup_epochs=1"]
ARMS: dict[str, list[str]] = {
    "random": [],
    "whole_box": [*FOLLOW, "boxes.every_epochs=1000"],
    "true_uniform": [*FOLLOW, "views.alpha=1.0"],
    "true_beta": FOLLOW,
    "threshold_.1": [*FOLLOW, "boxes.threshold=0.1"],
    "threshold_.5": [*FOLLOW, "boxes.threshold=0.5"],
    "quantile_.75": [*FOLLOW, "boxes.quantile=0.75"],
}
TRUE = "true_"
TRAIN, TEST, SIDE, START_EPOCHS, BATCH = 20_000, 5_000, 32, 6, 256
# The images' name in a row.
DATA = f"CIFAR-10 objects in blurred photographs: {TRAIN} and {TEST}"
COMMON = [
    f"data={pasted.NAME}", "backbone=study_resnet10", "max_images=null", f"views.size={SIDE}", "views.scale=[0.2,1.0]", f"batch={BATCH}",
    "precision=bf16", "channels_last=true", "threads=1", "trackers=[]", "device=cpu", "knn.every_epochs=0",
]  # fmt: skip
METHOD = ["method.name=study_simclr", "method.hidden=512", "method.head_norm=true", "method.temperature=0.2"]


@timm.models.register_model
def study_resnet10(pretrained: bool = False, **settings: Any) -> nn.Module:
    """ResNet-10 of half the usual width whose last map has an eighth of the image's side."""
    shape = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256), "output_stride": 8}
    network: nn.Module = build_model_with_cfg(
        ResNet, "study_resnet10", pretrained, **{"pretrained_cfg": PretrainedCfg(), **shape, **settings}
    )
    return network


_START: list[Path] = []


class Started(SimCLR):
    """SimCLR whose encoder begins as that of an earlier run, head and all."""

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: Any, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        if _START:
            self.load_state_dict(read_checkpoint(latest_checkpoint(_START[0]))["model"])


class TrueBoxMaker(BoxMaker):
    """The true boxes, from the first step on."""

    def due(self, epoch: int) -> bool:
        return epoch == 0

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        self._table()
        assert self._truth is not None
        every = np.ones(len(self._truth), bool)
        return {BOXES: self._truth}, box_statistics(self._truth, every, ~every, self._truth), "the true boxes"


class EarlyBoxMaker(BoxMaker):
    """Boxes from the first step on: the encoder has learned already."""

    def due(self, epoch: int) -> bool:
        every = self._settings.every_epochs
        assert every is not None
        return every < 1000 and epoch % every == 0


METHODS.update(study_simclr=Started)


def train(keys: list[str], run: Path) -> None:
    pretrain.loop.train(load_recipe("simclr_cifar10_cpu", [*COMMON, *keys]), run, overwrite=True)


def start(work: Path, seed: int) -> Path:
    """The run whose encoder all arms of a seed begin with; made once."""
    run = work / f"start_{seed}_{START_EPOCHS}"
    if not (run / "finished").exists():
        _START.clear()
        train([f"seed={seed}", f"epochs={START_EPOCHS}", "schedule.warmup_epochs=1"], run)
        (run / "finished").touch()
    return run


def run_one(work: Path, arm: str, seed: int, epochs: int, begun: Path) -> rows.Row:
    """Train an arm, measure it, and give its row."""
    _START[:] = [begun]
    pretrain.loop.BoxMaker = TrueBoxMaker if arm.startswith(TRUE) else EarlyBoxMaker  # type: ignore[misc]
    run = work / f"{arm}_{seed}"
    started = time.perf_counter()
    # Seeds of steps are others than those of the start.
    length = [f"epochs={epochs}", "schedule.warmup_epochs=0.5", "optimizer.lr=1e-3", f"checkpoint.every_epochs={epochs}"]
    train([*METHOD, f"seed={1000 + seed}", *length, *ARMS[arm]], run)
    seconds = time.perf_counter() - started
    row = {
        "study": STUDY, "arm": arm, "seed": seed, "data": DATA, "optimizer": "adamw", "steps": epochs * (TRAIN // BATCH),
        "scores": rows.scores(run, pasted.NAME, seed, image_size=SIDE), "log": rows.explanations(run), "seconds": round(seconds, 1),
        **rows.machine(),
    }  # fmt: skip
    shutil.rmtree(run)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for runs, which are removed when they are measured")
    parser.add_argument("--cifar", required=True, help="CIFAR-10's folder")
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of JPEG or PNG files")
    parser.add_argument("--arms", default=",".join(ARMS), help="with commas between")
    parser.add_argument("--seeds", default="0-4", help="one, or FIRST-LAST")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="begin no run after so long")
    parser.add_argument("--file", type=Path, default=FILE, help="where rows are added")
    options = parser.parse_args()
    if unknown := set(options.arms.split(",")) - ARMS.keys():
        parser.error(f"there is no arm '{min(unknown)}'; there are {', '.join(ARMS)}")
    pasted.enter(pasted.pasted_data(options.cifar, options.photographs, TRAIN, TEST))
    first, _, last = options.seeds.partition("-")
    begun = time.perf_counter()
    for seed in range(int(first), int(last or first) + 1):
        for arm in options.arms.split(","):
            key = (STUDY, arm, seed, DATA, "adamw", options.epochs * (TRAIN // BATCH))
            if key in {rows.key_of(row) for row in rows.read_rows(options.file)}:
                continue
            if time.perf_counter() - begun > options.limit_seconds:
                return
            row = run_one(options.work, arm, seed, options.epochs, start(options.work, seed))
            rows.add_row(options.file, row)
            print(f"{arm} {seed}: kNN {row['scores']['knn']:.2f}, linear {row['scores']['linear']:.2f}, {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
