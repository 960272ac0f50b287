"""SimCLR on CIFAR-10 for a given time on one thread: lightly's loop and ours, the same network, images, batch and optimizer; kNN of both.

    python benchmarks/lightly_simclr.py --lightly PYTHON --cifar FOLDER [--minutes 10]

PYTHON has lightly (in an environment of its own). Lightly's part is what its documentation shows: `SimCLRTransform` for 32 pixels, its
projection head and `NTXentLoss`, torch's `DataLoader`; ours is `simclr_cifar10_cpu`. Both train a resnet10t (timm) in bfloat16, batch 256,
AdamW, cosine over the given time with a short warm-up, on one thread; ours takes as many epochs as fit. The backbones are evaluated by
`evaluate --task knn`, 50,000 images in the bank, 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import evaluation
from pretrain.loop import train
from pretrain.recipes import load_recipe
from zoo.model_folder.importing import import_checkpoint

BATCH, RATE, DECAY, TEMPERATURE, WARMUP = 256, 2e-3, 0.01, 0.2, 0.04
ARCH = "resnet10t"
# Lightly's part, for its own environment.
LIGHTLY = """
import json, math, sys, time
import timm, torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torchvision.datasets import ImageFolder

cifar, seconds, out, arch, batch, rate, decay, temperature, warmup = json.loads(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
transform = SimCLRTransform(input_size=32, gaussian_blur=0.0, min_scale=0.2, cj_strength=0.5)
data = ImageFolder(cifar + "/train", transform)
loader = torch.utils.data.DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=0)
backbone = timm.create_model(arch, num_classes=0)
head = SimCLRProjectionHead(backbone.num_features, 512, 128)
model = torch.nn.Sequential(backbone, head).to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
criterion = NTXentLoss(temperature=temperature)
begun, images = time.perf_counter(), 0
while (share := (time.perf_counter() - begun) / seconds) < 1:
    for (first, second), *_ in loader:
        share = (time.perf_counter() - begun) / seconds
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * (share / warmup if share < warmup else 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            one, other = (model(view.to(memory_format=torch.channels_last)) for view in (first, second))
        loss = criterion(one.float(), other.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += batch
torch.save(backbone.state_dict(), out)
print(json.dumps({"images": images, "seconds": time.perf_counter() - begun}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lightly", required=True, metavar="PYTHON")
    parser.add_argument("--cifar", required=True, help="folders train/ and test/ with a folder for each class")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    data = f"cifar10:{options.cifar}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = [options.cifar, 60 * options.minutes, str(folder / "lightly.pth"), ARCH, BATCH, RATE, DECAY, TEMPERATURE, WARMUP]
        command = [options.lightly, "-c", LIGHTLY, json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        theirs = json.loads(done.stdout.splitlines()[-1])
        import_checkpoint(folder / "lightly.pth", folder / "lightly", arch=ARCH)
        keys = [
            *(f"data={data}", f"backbone={ARCH}", "max_images=null", "precision=bf16", "threads=1", "knn.every_epochs=0", "trackers=[]"),
            *("device=cpu", "checkpoint.every_epochs=1000"),
        ]
        # Half an epoch tells how many fit.
        started = time.perf_counter()
        train(load_recipe("simclr_cifar10_cpu", [*keys, "max_images=12800", "epochs=1"]), folder / "speed")
        speed = 12_800 / (time.perf_counter() - started)
        epochs = max(1, round(60 * options.minutes * speed / 50_000))
        started = time.perf_counter()
        train(load_recipe("simclr_cifar10_cpu", [*keys, f"epochs={epochs}", f"schedule.warmup_epochs={WARMUP * epochs}"]), folder / "ours")
        seconds = time.perf_counter() - started
        rows = {
            "lightly": (theirs["images"], theirs["seconds"], str(folder / "lightly")),
            "ours": (epochs * (50_000 // BATCH) * BATCH, seconds, str(folder / "ours")),
        }
        for name, (images, took, model) in rows.items():
            result = evaluation.knn(model, data, k=[20], image_size=32)
            print(f"{name}: {images:,} images in {took:.0f} s, {images / took:.0f} images/s, kNN (k = 20) {result.headline.value:.2f}")
    print(f"torch {torch.__version__}, one thread", file=sys.stderr)


if __name__ == "__main__":
    main()
