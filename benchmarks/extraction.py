"""Extraction of features from uint8 images in memory, beside the bare forward pass of the same network on tensors that are ready.

    python benchmarks/extraction.py [--arch resnet18_small] [--images 4096] [--side 32] [--batch 256] [--repeats 5] [--device cpu]

Each takes its turn; the figures are medians of the ratios of pairs: throughput of extraction, with that batch and with the batch that a
trial chooses (as without ``--batch-size``), over that of the bare forward pass.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from evaluation.extraction.features import extract_features
from zoo.backbones import create_backbone
from zoo.data import ArrayImages, Level
from zoo.models.transforms import EvalTransform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet18_small")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    pixels = np.random.default_rng(0).integers(0, 256, (given.images, given.side, given.side, 3), dtype=np.uint8)
    images = ArrayImages("random", "test", pixels, {"class": Level(np.zeros(given.images, dtype=np.int64), ("one",))})
    transform = EvalTransform(given.side, given.side, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    network = create_backbone(given.arch, image_size=given.side).eval().to(device)
    ready = torch.randn(given.batch, 3, given.side, given.side, device=device)

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, given.images, given.batch):
                network(ready[: min(given.batch, given.images - start)])
        if device.type == "cuda":
            torch.cuda.synchronize()

    def extraction(batch: int | None) -> None:
        extract_features(network, images, transform, batch_size=batch, device=device)

    bare()
    works = {"bare": bare, "extraction": lambda: extraction(given.batch), "batch chosen": lambda: extraction(None)}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(given.repeats):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    print(f"{given.arch}, {given.images} images of {given.side} px, batch {given.batch}, {device}, {torch.get_num_threads()} threads")
    for name, found in times.items():
        ratios = np.array(times["bare"]) / np.array(found)
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{name:12s} {given.images / np.median(found):10.1f} images/s   {np.median(ratios):.2f} x bare (each pair: {each})")


if __name__ == "__main__":
    main()
