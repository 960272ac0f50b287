"""What does ContrastiveCrop's placement cost? Its views beside those of RandomResizedCrop, and the time of one crop.

    python benchmarks/crops.py [--quick] [--size 32] [--batch 256] [--jpeg DIR] [--authors FILE]

The first table makes two views of held images with and without boxes, in turn, on one thread (CIFAR's augmentation: no blur); the ratio is
the median over the turns of processor times. With ``--jpeg`` the same from the files in that folder, at 224 px with blur. The
second table is the microseconds of one crop: the samplers on a whole batch, random numbers included, and torchvision's
``RandomResizedCrop.get_params`` and our transform, one image at a time. With ``--authors`` the authors' own transform is drawn beside ours,
in turn: its FILE is ``datasets/transforms/ContrastiveCrop.py`` of a checkout of xyupeng/ContrastiveCrop, which is run.
"""

from __future__ import annotations

import argparse
import platform
import runpy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms import v2

from evaluation.views import ContrastiveCrop, ViewSettings, ViewSource, ViewSpec
from evaluation.views.parameters import draw_crops
from evaluation.views.samplers import make_sampler
from evaluation.views.tables import BOXES
from zoo.data.base import ArrayImages, FileImages, Images
from zoo.data.entries import FileEntry
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

PLAIN = "random_resized_crop"
ALPHAS = (0.1, 0.6, 1.0)
JPEG_SIZE, JPEG_BATCH = 224, 64
SEED = 0


def random_boxes(count: int) -> NDArray[np.float32]:
    """float32 (count, 4): boxes of a fifth of each side and more, anywhere."""
    rng = np.random.default_rng(SEED)
    sides = rng.uniform(0.2, 1.0, (count, 2))
    corners = rng.uniform(0.0, 1.0 - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def kinds(size: int, blur: float) -> dict[str, ViewSettings]:
    """Name -> settings of a pipeline."""
    placed = {f"contrastive_crop, alpha {a}": ViewSettings(size=size, blur=blur, crop="contrastive_crop", alpha=a) for a in ALPHAS}
    return {PLAIN: ViewSettings(size=size, blur=blur), **placed}


def show_pipelines(console: Console, images: Images, settings: Mapping[str, ViewSettings], batch: int, turns: int, title: str) -> None:
    """Two views of every image, each pipeline in turn, an epoch a turn; the first turn is not counted."""
    tables = {BOXES: random_boxes(len(images))}
    specs = [ViewSpec("query"), ViewSpec("key")]
    sources = {
        name: ViewSource(images, specs, own, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=SEED, batch=batch) for name, own in settings.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(turns + 1):
        # Each turn begins with another one, so that none gains from its place.
        for name in np.roll(list(sources), turn).tolist():
            source, started = sources[name], time.process_time()
            for _ in source.batches(turn, tables=tables):
                pass
            if turn:
                taken[name].append((time.process_time() - started) / source.steps_per_epoch)
    table = Table("crop", "ms per batch (CPU)", "times the plain one's", title=title)
    for name, seconds in taken.items():
        ratio = median(own / plain for own, plain in zip(seconds, taken[PLAIN], strict=True))
        table.add_row(name, f"{1000 * median(seconds):.1f}", f"{ratio:.3f}")
    console.print(table)


def microseconds(function: Callable[[], object], crops: int, turns: int) -> float:
    """Median processor time per crop of a call that draws ``crops``."""
    taken = []
    for turn in range(turns + 1):
        started = time.process_time()
        function()
        if turn:
            taken.append(time.process_time() - started)
    return 1e6 * median(taken) / crops


def show_samplers(console: Console, size: int, batch: int, turns: int) -> None:
    """The time of one crop, without a pixel being touched."""
    sizes, index, boxes = np.full((batch, 2), size), np.arange(batch), random_boxes(batch)
    table = Table("crop", "microseconds per crop", title=f"drawing a crop; {size} px")
    for name, settings in kinds(size, 0.0).items():
        sampler = make_sampler(settings)

        def draw_batch(sampler=sampler, settings=settings):  # type: ignore[no-untyped-def]
            return draw_crops(sampler, settings, sizes, index, seed=SEED, epoch=0, view=0, boxes=boxes)

        table.add_row(f"{name}, batches of {batch}", f"{microseconds(draw_batch, batch, 10 * turns):.1f}")
    image = torch.empty(3, size, size)
    scale, ratio = ViewSettings().scale, ViewSettings().ratio
    peer = v2.RandomResizedCrop(size, tuple(scale), tuple(ratio))
    plain = torchvision.transforms.RandomResizedCrop
    transform, box = ContrastiveCrop(size), (0.1, 0.1, 0.9, 0.9)
    one_by_one = {
        "torchvision v1 RandomResizedCrop.get_params": lambda: [plain.get_params(image, scale, ratio) for _ in range(batch)],
        "torchvision v2 RandomResizedCrop.make_params": lambda: [peer.make_params([image]) for _ in range(batch)],
        "our transform ContrastiveCrop.draw": lambda: [transform.draw((size, size), box) for _ in range(batch)],
    }
    for name, function in one_by_one.items():
        table.add_row(name, f"{microseconds(function, batch, turns):.1f}")
    console.print(table)


def show_authors(console: Console, file: Path, size: int, crops: int, turns: int) -> None:
    """One crop of ours and of the authors' transform, in turn."""
    scale, ratio, alpha, box = tuple(ViewSettings().scale), tuple(ViewSettings().ratio), ViewSettings().alpha, (0.1, 0.1, 0.9, 0.9)
    theirs = runpy.run_path(str(file))["ContrastiveCrop"](alpha=alpha, size=size, scale=scale, ratio=ratio)
    transform, image = ContrastiveCrop(size, scale, ratio, alpha), Image.new("RGB", (size, size))
    drawn = {
        "ours": lambda: [transform.draw((size, size), box) for _ in range(crops)],
        "theirs": lambda: [theirs.get_params(image, box, scale, ratio) for _ in range(crops)],
    }
    taken: dict[str, list[float]] = {name: [] for name in drawn}
    for _ in range(turns):
        for name, function in drawn.items():
            taken[name].append(microseconds(function, crops, 1))
    ratio_of_times = median(mine / other for mine, other in zip(taken["ours"], taken["theirs"], strict=True))
    console.print(
        f"one ContrastiveCrop at a time, alpha {alpha}: ours {median(taken['ours']):.1f} microseconds, the authors' "
        f"{median(taken['theirs']):.1f}; ours / theirs {ratio_of_times:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--size", type=int, default=32, help="side of held images and their views in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=256, help="images per batch of held images (default 256)")
    parser.add_argument("--jpeg", type=Path, metavar="DIR", help="a folder of JPEG files, for a table at 224 px")
    parser.add_argument("--authors", type=Path, metavar="FILE", help="the authors' ContrastiveCrop.py, to be timed beside ours")
    options = parser.parse_args()
    torch.set_num_threads(1)
    turns = 5 if options.quick else 25
    console = Console()
    console.print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, numpy {np.__version__}, {platform.machine()}, 1 thread"
    )
    pixels = np.random.default_rng(SEED).integers(0, 256, (4 * options.batch, options.size, options.size, 3), dtype=np.uint8)
    held = ArrayImages("noise", "train", pixels, {})
    title = f"two views, held images, {options.size} px, batch {options.batch}"
    show_pipelines(console, held, kinds(options.size, 0.0), options.batch, turns, title)
    if options.jpeg:
        paths = sorted(str(path) for path in options.jpeg.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[: 4 * JPEG_BATCH]
        if len(paths) < JPEG_BATCH:
            parser.error(f"--jpeg {options.jpeg} holds {len(paths)} JPEG files; a batch takes {JPEG_BATCH}")
        files = FileImages("jpeg", "train", [FileEntry(path) for path in paths], {})
        title = f"two views from JPEG, {JPEG_SIZE} px, batch {JPEG_BATCH}"
        show_pipelines(console, files, kinds(JPEG_SIZE, 0.5), JPEG_BATCH, max(3, turns // 5), title)
    show_samplers(console, options.size, options.batch, turns)
    if options.authors:
        show_authors(console, options.authors, options.size, options.batch, turns)


if __name__ == "__main__":
    main()
