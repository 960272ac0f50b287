"""Linear heads, logistic regression, and extraction beside a bare forward pass."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from context import Context
from measure import in_turn, synchronise, waits
from search import made_rows

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.features import extract_features
from evaluation.tasks.linear.logistic import fit_logistic_regression
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.training import train_linear
from evaluation.training.kernels import kernels
from zoo.backbones import create_backbone
from zoo.data import ArrayImages, Level
from zoo.models.transforms import EvalTransform

CLASSES = 10


def classifiers(context: Context) -> None:
    """50,000 x 512 features of ten classes, on the device: SGD with several rates at once, and L-BFGS to its minimum."""
    count, width, epochs = (600, 16, 1) if context.dry else (50_000, 512, 10)
    train, test = made_rows(count, width).to(context.device), made_rows(count // 5, width, 1).to(context.device)
    teacher = torch.randn(width, CLASSES, generator=torch.Generator().manual_seed(3)).to(context.device)
    labels, truth = (rows @ teacher for rows in (train, test))
    labels, truth = labels.argmax(1).cpu(), truth.argmax(1).cpu()
    preset = replace(LINEAR_PRESETS["moco"], epochs=epochs)

    def heads() -> object:
        return train_linear(train, labels, test, truth, preset=preset, seed=0, num_classes=CLASSES)

    heads()
    synchronise(context.device)
    started = time.perf_counter()
    trained = train_linear(train, labels, test, truth, preset=preset, seed=0, num_classes=CLASSES)
    taken = time.perf_counter() - started
    steps = epochs * (count // min(preset.batch, count))
    context.report(
        heads={
            "rates": len(trained.rates),
            "s_per_epoch": taken / epochs,
            "ms_per_step": 1000 * taken / max(steps, 1),
            "waits_per_epoch": None if context.dry else (waits(heads, context.device) or 0) / epochs,
            "top1": 100 * trained.last.correct / len(test),
        }
    )
    started = time.perf_counter()
    fit = fit_logistic_regression(train, labels, num_classes=CLASSES)
    taken = time.perf_counter() - started
    context.report(
        logistic={"s": taken, "iterations": fit.iterations, "s_per_iteration": taken / fit.iterations, "converged": fit.converged}
    )


def extraction(context: Context) -> None:
    """Images/s of extraction from uint8 images in the host's memory, over that of a bare forward pass."""
    for arch, side, count in (("resnet10_small", 16, 600),) if context.dry else (("resnet18_small", 32, 50_000), ("resnet50", 224, 4096)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        images = ArrayImages("made", "test", pixels, {"class": Level(np.zeros(count, dtype=np.int64), ("one",))})
        transform = EvalTransform(side, side, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        network = create_backbone(arch, image_size=side).eval().to(context.device)
        ready = torch.randn(BATCH_SIZE, 3, side, side, device=context.device)

        def bare(network: torch.nn.Module = network, ready: torch.Tensor = ready, count: int = count) -> None:
            with torch.inference_mode():
                for start in range(0, count, BATCH_SIZE):
                    network(ready[: count - start])

        def extract(network: torch.nn.Module = network, images: ArrayImages = images, transform: EvalTransform = transform) -> None:
            extract_features(network, images, transform, batch_size=BATCH_SIZE, device=context.device)

        with kernels(context.device):
            forward, extracted, ratio = in_turn(bare, extract, context.device, pairs=1 if context.dry else 5)
        context.report(
            **{
                f"{arch} at {side} px": {
                    "forward_images_per_second": count / forward,
                    "extraction_images_per_second": count / extracted,
                    "extraction_over_forward": ratio,
                }
            }
        )
