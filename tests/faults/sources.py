"""What commands under test read: a run, a model, a checkpoint, a result, images; made by the commands themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from commands import typed
from PIL import Image

TINY = """
data: shapes:train=40,test=30,size=64
backbone: test_resnet
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 64, blur: 0.3, blur_sigma: [0.1, 1.0]}
batch: 8
epochs: 3
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: [tensorboard]
knn: {every_epochs: 1, train_images: 20, test_images: 10}
checkpoint: {every_epochs: 1, keep: 2}
"""


@dataclass
class Sources:
    """What commands read; it lies on the machine's own disk."""

    run: Path
    model: Path
    checkpoint: Path
    photos: Path
    result: Path


def make_sources(folder: Path) -> Sources:
    """A run, its model and a result of that, a ResNet-18's checkpoint, and a few photos in two classes, in a folder."""
    (folder / "tiny.yaml").write_text(TINY)
    run = folder / "run"
    assert typed(["pretrain", folder / "tiny.yaml", "--out", run, "epochs=1"]) == 0
    assert typed(["zoo", "export", run, "--out", folder / "model"]) == 0
    words = ["evaluate", "--model", folder / "model", "--data", "digits", "--out", folder / "knn.json"]
    assert typed(words) == 0
    torch.save({"state_dict": _resnet18()}, folder / "resnet18.pth")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in "ab":
            (folder / "photos" / split / label).mkdir(parents=True)
            for number in range(12):
                Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / "photos" / split / label / f"{number}.png")
    return Sources(run, folder / "model", folder / "resnet18.pth", folder / "photos", folder / "knn.json")


def _resnet18() -> dict[str, torch.Tensor]:
    network = timm.create_model("resnet18", num_classes=0)
    # As if it had been trained: a network whose statistics are those of its start is refused.
    return {name: value + 0.01 if name.endswith("running_mean") else value for name, value in network.state_dict().items()}
