"""Views on the device beside Pillow in loader processes, and kornia where it is installed; boxes and survey beside a forward pass."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from context import Context
from measure import in_turn, seconds, synchronise, waits
from torch import nn

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.training.kernels import kernels
from evaluation.views import ViewSettings, ViewSource, ViewSpec
from pretrain.encoder import Encoder
from pretrain.settings import BoxSettings
from pretrain.survey import BoxMaker, Survey, extract_boxes
from zoo.backbones import create_backbone
from zoo.data.base import ArrayImages
from zoo.models.transforms import normalise
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

SPECS = [ViewSpec("query"), ViewSpec("key")]


def made_images(count: int, side: int) -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ArrayImages("made", "train", pixels, {})


def _batches(images: ArrayImages, settings: ViewSettings, batch: int, device: torch.device, workers: int) -> Iterator[Any]:
    source = ViewSource(
        images, SPECS, settings, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=0, batch=batch, device=device, workers=workers
    )
    for epoch in range(10**6):
        yield from source.batches(epoch)


def views(context: Context) -> None:
    """Images/s, two views of each, MoCo v2's augmentation, at 32 px of held images and at 224 px of images of 256 px."""
    cores = os.cpu_count() or 1
    for side, native, batch, count in ((16, 16, 16, 64),) if context.dry else ((32, 32, 512, 50_000), (224, 256, 256, 2048)):
        images, settings = made_images(count, native), ViewSettings(size=side, blur=0.5)
        ours = _batches(images, settings, batch, context.device, 0)
        taken = seconds(lambda made=ours: next(made), context.device, repeats=3 if context.dry else 30, warm_up=3)
        found: dict[str, Any] = {"batch": batch, "on_device": batch / taken, "waits": waits(lambda made=ours: next(made), context.device)}
        theirs = _batches(images, ViewSettings(size=side, blur=0.5, backend="cpu"), batch, context.device, 0 if context.dry else cores)
        for _ in range(2 if context.dry else 2 * cores + 2):  # what the loaders have prepared meanwhile is not their speed
            next(theirs)
        steps = 2 if context.dry else 3 * cores
        synchronise(context.device)
        started = time.perf_counter()
        for _ in range(steps):
            next(theirs)
        synchronise(context.device)
        found |= {"pillow": batch * steps / (time.perf_counter() - started), "pillow_workers": cores}
        found["kornia"] = _kornia(images, side, batch, context.device)
        context.report(**{f"{side} px": found})


def _kornia(images: ArrayImages, side: int, batch: int, device: torch.device) -> float | None:
    """Images/s of the same augmentations by kornia, on the device; None where it is not installed."""
    if importlib.util.find_spec("kornia") is None:
        return None
    import kornia.augmentation as k

    steps = nn.Sequential(
        k.RandomResizedCrop((side, side), scale=(0.2, 1.0)),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        k.RandomGrayscale(p=0.2),
        k.RandomGaussianBlur((17, 17), (0.1, 2.0), p=0.5),
        k.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
    )
    pixels = torch.from_numpy(images.pixels[:batch]).to(device).permute(0, 3, 1, 2).float() / 255
    return batch / seconds(lambda: (steps(pixels), steps(pixels)), device)


def survey(context: Context) -> None:
    """Boxes, and a survey that makes them, beside the bare forward passes of the same network on tensors that are ready."""
    mean, std, device = IMAGENET_MEAN, IMAGENET_STD, context.device
    for arch, side, count in (("resnet10_small", 16, 600),) if context.dry else (("resnet18_small", 32, 20_000), ("resnet50", 224, 2048)):
        images = made_images(count, side)
        network = create_backbone(arch, image_size=side).to(device)
        autocast = None if context.dry else torch.bfloat16
        if autocast:
            network.to(memory_format=torch.channels_last)
        encoder = Encoder(network, nn.Linear(int(network.num_features), 128).to(device))  # type: ignore[arg-type]
        # A random network's map may be the same everywhere; the cost of its boxes is that of any.
        maker = BoxMaker(BoxSettings(1, 1, quantile=0.5), side, native=side)
        made = Survey(images, [maker], size=side, native=side, mean=mean, std=std, device=device, autocast=autocast)
        ready = torch.from_numpy(images.pixels[:BATCH_SIZE]).to(device)

        def forward(network: nn.Module = network, ready: torch.Tensor = ready, count: int = count) -> None:
            network.eval()
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=not context.dry):
                for start in range(0, count, BATCH_SIZE):
                    network(normalise(ready[: count - start], mean, std))

        def survey_once(made: Survey = made, encoder: Encoder = encoder) -> None:
            made(1, lambda name: encoder)

        with kernels(device):
            surveyed, bare, ratio = in_turn(survey_once, forward, device, pairs=1 if context.dry else 5)
            waited = waits(survey_once, device)
        heat = torch.rand(count, max(side // 8, 2), max(side // 8, 2), device=device)
        boxes = seconds(_boxes(heat, side), device)
        context.report(
            **{
                f"{arch} at {side} px": {
                    "survey_images_per_second": count / surveyed,
                    "forward_images_per_second": count / bare,
                    "survey_over_forward": ratio,
                    "waits": waited,
                    "batches": -(-count // BATCH_SIZE),
                    "boxes_us_per_image": 1e6 * boxes / count,
                }
            }
        )


def _boxes(heat: torch.Tensor, side: int) -> Callable[[], object]:
    return lambda: extract_boxes(heat, side)
