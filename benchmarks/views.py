"""How fast are the views? Ours beside torchvision v1 on Pillow images and torchvision v2 on uint8 tensors.

    python benchmarks/views.py [--quick] [--threads 1] [--only held|jpeg|device] [--size 32] [--batch 256] [--jpeg DIR]

- ``held``: two views of each image of a batch, MoCo v2's augmentation, without and with blur, from uint8 pixels in memory to a
  normalised float32 batch.
- ``jpeg``: the same with blur at 224 px, from JPEG files in ``--jpeg DIR`` (in any of its folders), all on the processor, no loader
  processes. Every pipeline decodes an image once for both views. Without a folder the files are made: random smooth pictures.
- ``device``: on a CUDA GPU, what the device does of the second, beside a ResNet-50's training step.

The pipelines take turns on the same images, and a ratio is the median over the turns. Rates are per second of processor time (all threads
added up), because that is what training on the same cores loses; the wall time of a batch stands beside them.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.models import resnet50
from torchvision.transforms import v2

from evaluation.views import ViewSettings, ViewSource, ViewSpec, epoch_order
from evaluation.views.parameters import draw_photometric
from evaluation.views.photometric import apply_photometric_, normalise_
from evaluation.views.resample import to_planes
from zoo.data.base import ArrayImages, FileImages, Images
from zoo.data.entries import FileEntry
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

VIEWS = 2
OURS = "ours, batched"
ON_PILLOW, ON_TENSORS = "torchvision v1, Pillow", "torchvision v2, uint8 tensor"
JPEG_SIZE, JPEG_BATCH = 224, 64
MADE_JPEGS, MADE_SHAPE, MADE_QUALITY = 256, (256, 341), 90
SEED = 0
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


def ours(images: Images, settings: ViewSettings, batch: int) -> Pipeline:
    """Makes the views of the next batch, in the order of :func:`steps`."""
    specs = [ViewSpec("query"), ViewSpec("key")]
    source = ViewSource(images, specs, settings, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=SEED, batch=batch)
    made = (made.views for epoch in range(10**9) for made in source.batches(epoch))
    return lambda: next(made)


def steps(count: int, batch: int) -> Iterator[NDArray[np.int64]]:
    """The images of one batch after the other, as :class:`ViewSource` takes them."""
    return (step for epoch in range(10**9) for step in epoch_order(count, batch, SEED, epoch))


def per_image(count: int, batch: int, read: Callable[[int], Any], transform: Callable[[Any], Tensor]) -> Pipeline:
    """Makes the views of the next batch, one image at a time, each read once."""
    indices = steps(count, batch)

    def next_batch() -> list[Tensor]:
        made = [[transform(image) for _ in range(VIEWS)] for image in map(read, next(indices).tolist())]
        return [torch.stack(views) for views in zip(*made, strict=True)]

    return next_batch


def pipelines_from_memory(pixels: NDArray[np.uint8], settings: ViewSettings, batch: int) -> dict[str, Pipeline]:
    """Name -> a function that makes the views of the next batch."""
    count, on_pillow, on_tensors = len(pixels), pillow_transform(settings), tensor_transform(settings)
    return {
        OURS: ours(ArrayImages("noise", "train", pixels, {}), settings, batch),
        ON_PILLOW: per_image(count, batch, lambda i: pixels[i], lambda image: on_pillow(Image.fromarray(image))),
        ON_TENSORS: per_image(count, batch, lambda i: pixels[i], lambda image: on_tensors(torch.from_numpy(image).permute(2, 0, 1))),
    }


def pipelines_from_jpeg(paths: list[str], settings: ViewSettings, batch: int) -> dict[str, Pipeline]:
    """As :func:`pipelines_from_memory`; torchvision v2 with both decoders."""
    count, on_pillow, on_tensors = len(paths), pillow_transform(settings), tensor_transform(settings)

    def by_pillow(index: int) -> Image.Image:
        with Image.open(paths[index]) as image:
            return image.convert("RGB")

    def by_torchvision(index: int) -> Tensor:
        return decode_jpeg(read_file(paths[index]), mode=ImageReadMode.RGB)

    return {
        OURS: ours(FileImages("jpeg", "train", [FileEntry(path) for path in paths], {}), settings, batch),
        ON_PILLOW: per_image(count, batch, by_pillow, on_pillow),
        f"{ON_TENSORS}, decoded by Pillow": per_image(count, batch, lambda i: v2.functional.pil_to_tensor(by_pillow(i)), on_tensors),
        f"{ON_TENSORS}, decode_jpeg": per_image(count, batch, by_torchvision, on_tensors),
    }


def make_jpegs(folder: Path) -> None:
    """Random smooth pictures with some noise."""
    rng = np.random.default_rng(SEED)
    for number in range(MADE_JPEGS):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(MADE_SHAPE[::-1], Image.Resampling.BICUBIC)) + rng.normal(0, 6, (*MADE_SHAPE, 3))
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03d}.jpg", quality=MADE_QUALITY)


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


def show(console: Console, made_by: dict[str, Pipeline], batch: int, turns: int, title: str) -> None:
    """Measure the pipelines and print a table."""
    processor, wall = measure(made_by, turns)
    table = Table("pipeline", "views per CPU second", "ms per batch (wall)", "times as fast as v1", title=title)
    for pipeline in made_by:
        rate = VIEWS * batch / median(processor[pipeline])
        ratio = median(peer / own for peer, own in zip(processor[ON_PILLOW], processor[pipeline], strict=True))
        table.add_row(pipeline, f"{rate:,.0f}", f"{1000 * median(wall[pipeline]):.0f}", f"{ratio:.2f}")
    console.print(table)


def seconds_each(function: Callable[[], object], device: torch.device, turns: int) -> float:
    """Median seconds of a call; the first few are not counted."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    taken = []
    for turn in range(turns + 3):
        wait()
        started = time.perf_counter()
        function()
        wait()
        if turn >= 3:
            taken.append(time.perf_counter() - started)
    return median(taken)


def show_device_part(console: Console, device: torch.device, batch: int, size: int, turns: int) -> None:
    """What the device does of both views of a batch of decoded crops, beside one step of MoCo v2's networks.

    The step is a ResNet-50's forward and backward pass and its update for the query, and a forward pass for the key, in bfloat16.
    """
    settings = ViewSettings(size=size)
    mean, std = torch.tensor(IMAGENET_MEAN, device=device), torch.tensor(IMAGENET_STD, device=device)
    index = np.arange(batch)
    crops = torch.randint(0, 256, (VIEWS, batch, size, size, 3), dtype=torch.uint8, device=device)

    def views() -> list[Tensor]:
        made = [to_planes(view).div_(255.0) for view in crops]
        for number, view in enumerate(made):
            parameters = draw_photometric(settings, index, seed=SEED, epoch=0, view=number)
            normalise_(apply_photometric_(view, parameters, settings.blur_sigma[1]), mean, std)
        return made

    network, key = (resnet50().to(device, memory_format=torch.channels_last) for _ in range(VIEWS))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    inputs, labels = views(), torch.zeros(batch, dtype=torch.int64, device=device)

    def step() -> None:
        query_input, key_input = (view.contiguous(memory_format=torch.channels_last) for view in inputs)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            with torch.no_grad():
                key(key_input)
            loss = nn.functional.cross_entropy(network(query_input), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    made, stepped = (1000 * seconds_each(function, device, turns) for function in (views, step))
    console.print(
        f"{device}: the device part of both views of {batch} images at {size} px takes {made:.1f} ms, the step of ResNet-50 in bfloat16 "
        f"{stepped:.1f} ms: {100 * made / stepped:.1f} % (bar: 5 %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--only", choices=("held", "jpeg", "device"), help="one of the three parts")
    parser.add_argument("--size", type=int, default=32, help="side of held images and their views in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=256, help="images per batch, held and on the device (default 256)")
    parser.add_argument("--jpeg", type=Path, metavar="DIR", help="a folder of JPEG files (default: they are made)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    turns = 3 if options.quick else 15
    console = Console()
    console.print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {platform.machine()}, {options.threads} thread(s)")
    if options.only in (None, "held"):
        pixels = np.random.default_rng(SEED).integers(0, 256, (4 * options.batch, options.size, options.size, 3), dtype=np.uint8)
        for name, blur in (("crop, flip, jitter, grayscale, normalise", 0.0), ("the same and blur at probability .5", 0.5)):
            made_by = pipelines_from_memory(pixels, ViewSettings(size=options.size, blur=blur), options.batch)
            show(console, made_by, options.batch, turns, f"{name}; {options.size} px")
    if options.only in (None, "jpeg"):
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.jpeg or Path(temporary)
            if options.jpeg is None:
                make_jpegs(folder)
            paths = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
            if len(paths) < JPEG_BATCH:
                parser.error(f"--jpeg {folder} holds {len(paths)} JPEG files; a batch takes {JPEG_BATCH}")
            kind = "random smooth pictures, made for this run" if options.jpeg is None else "files of --jpeg"
            made_by = pipelines_from_jpeg(paths, ViewSettings(size=JPEG_SIZE), JPEG_BATCH)
            show(console, made_by, JPEG_BATCH, turns, f"from JPEG, with blur; {JPEG_SIZE} px; {len(paths)} {kind}")
    if options.only in (None, "device"):
        if torch.cuda.is_available():
            show_device_part(console, torch.device("cuda"), options.batch, JPEG_SIZE, turns)
        else:
            console.print("no CUDA GPU here: the device part at 224 px is not measured")


if __name__ == "__main__":
    main()
