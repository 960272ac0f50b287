"""How fast are the views? Ours on held images, beside torchvision v1 on Pillow images and torchvision v2 on uint8 tensors.

    python benchmarks/views.py [--quick] [--threads 1] [--size 32] [--batch 256]

Two views of each image of a batch, MoCo v2's augmentation, without and with blur, from uint8 pixels in memory to a normalised float32
batch. The three pipelines take turns, and a ratio is the median over the turns. Rates are per second of processor time (all threads
added up), because that is what training on the same cores loses; the wall time of a batch stands beside them.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table
from torchvision import transforms as v1
from torchvision.transforms import v2

from pretrain.views import ViewSettings, ViewSource, ViewSpec
from zoo.data.base import IMAGENET_MEAN, IMAGENET_STD, ArrayImages

VIEWS = 2
OURS = "ours, batched"
Pipeline = Callable[[], list[torch.Tensor]]


class PillowBlur:
    """Gaussian blur as the published pre-training scripts have it."""

    def __init__(self, sigma: list[float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def pillow_transform(s: ViewSettings) -> v1.Compose:
    return v1.Compose(
        [
            v1.RandomResizedCrop(s.size, tuple(s.scale), tuple(s.ratio)),
            v1.RandomHorizontalFlip(s.flip),
            v1.RandomApply([v1.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue)], s.jitter),
            v1.RandomGrayscale(s.grayscale),
            *([v1.RandomApply([PillowBlur(s.blur_sigma)], s.blur)] if s.blur else []),
            v1.ToTensor(),
            v1.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def tensor_transform(s: ViewSettings) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(s.size, tuple(s.scale), tuple(s.ratio), antialias=True),
            v2.RandomHorizontalFlip(s.flip),
            v2.RandomApply([v2.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue)], s.jitter),
            v2.RandomGrayscale(s.grayscale),
            *([v2.RandomApply([v2.GaussianBlur(17, tuple(s.blur_sigma))], s.blur)] if s.blur else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def pipelines(pixels: NDArray[np.uint8], settings: ViewSettings, batch: int) -> dict[str, Pipeline]:
    """Name -> a function that makes the views of the next batch."""
    images = ArrayImages("noise", "train", pixels, {})
    specs = [ViewSpec("query"), ViewSpec("key")]
    source = ViewSource(images, specs, settings, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=0, batch=batch)
    on_pillow, on_tensors = pillow_transform(settings), tensor_transform(settings)

    def batches() -> Iterator[list[torch.Tensor]]:
        for epoch in range(10**9):
            for made in source.batches(epoch):
                yield made.views

    def per_image(view: Callable[[int], torch.Tensor]) -> Pipeline:
        def next_batch() -> list[torch.Tensor]:
            chosen = np.random.default_rng().choice(len(pixels), batch, replace=False)
            made = [[view(int(i)) for _ in range(VIEWS)] for i in chosen]
            return [torch.stack(views) for views in zip(*made, strict=True)]

        return next_batch

    ours = batches()
    return {
        OURS: lambda: next(ours),
        "torchvision v1, Pillow": per_image(lambda i: on_pillow(Image.fromarray(pixels[i]))),
        "torchvision v2, uint8 tensor": per_image(lambda i: on_tensors(torch.from_numpy(pixels[i]).permute(2, 0, 1))),
    }


def measure(made_by: dict[str, Pipeline], turns: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Processor and wall seconds per batch of each pipeline, turn by turn; the first turn is not counted."""
    processor: dict[str, list[float]] = {name: [] for name in made_by}
    wall: dict[str, list[float]] = {name: [] for name in made_by}
    for turn in range(turns + 1):
        for name, next_batch in made_by.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            next_batch()
            if turn:
                processor[name].append(time.process_time() - cpu_started)
                wall[name].append(time.perf_counter() - started)
    return processor, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--size", type=int, default=32, help="side of images and views in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=256, help="images per batch (default 256)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pixels = np.random.default_rng(0).integers(0, 256, (4 * options.batch, options.size, options.size, 3), dtype=np.uint8)
    console = Console()
    console.print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {platform.machine()}, {options.threads} thread(s)")
    for name, blur in (("crop, flip, jitter, grayscale, normalise", 0.0), ("the same and blur at probability .5", 0.5)):
        made_by = pipelines(pixels, ViewSettings(size=options.size, blur=blur), options.batch)
        processor, wall = measure(made_by, turns=3 if options.quick else 15)
        table = Table("pipeline", "views per CPU second", "ms per batch (wall)", "times as fast as v1", title=f"{name}; {options.size} px")
        for pipeline in made_by:
            rate = VIEWS * options.batch / median(processor[pipeline])
            ratio = median(peer / own for peer, own in zip(processor["torchvision v1, Pillow"], processor[pipeline], strict=True))
            table.add_row(pipeline, f"{rate:,.0f}", f"{1000 * median(wall[pipeline]):.0f}", f"{ratio:.1f}")
        console.print(table)


if __name__ == "__main__":
    main()
