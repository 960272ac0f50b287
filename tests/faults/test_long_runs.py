"""Long runs do not grow: memory and open files of this process over thousands of steps of training, extraction and search."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from evaluation.extraction.features import extract_features
from evaluation.tasks.knn.votes import evaluate_knn
from pretrain.loop import train
from pretrain.recipes import load_recipe
from zoo.data import open_data
from zoo.models.transforms import EvalTransform

TINY = """
base: moco_shapes
data: shapes:train=8,test=8,size=8
backbone: test_resnet
method: {queue: 8, dim: 8}
views: {size: 8}
batch: 4
bn_splits: 1
epochs: 1000000
threads: 1
device: cpu
trackers: [tensorboard]
knn: {every_epochs: 500, train_images: 8, test_images: 8}
checkpoint: {every_epochs: 500, keep: 1}
"""
# Growth from the first third, when every path has been walked, to the end.
MOST_BYTES, MOST_FILES = 24 << 20, 2


class Growth:
    """What this process holds, noted now and then."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.rows: list[tuple[int, int, int]] = []

    def note(self, step: int) -> None:
        gc.collect()
        self.rows.append((step, self.process.memory_info().rss, len(os.listdir("/proc/self/fd"))))

    def since_a_third(self) -> tuple[int, int]:
        """Bytes and open files that were added after the first third."""
        _, before, files = self.rows[len(self.rows) // 3]
        _, after, files_after = self.rows[-1]
        return after - before, files_after - files


def check(growth: Growth, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    bytes_, files = growth.since_a_third()
    with capsys.disabled():
        print(f"\n{what}: {growth.rows[-1][0]:,} in all; memory +{bytes_ / 2**20:.1f} MiB, open files {files:+d} after a third of it")
    assert bytes_ < MOST_BYTES
    assert files <= MOST_FILES


def watched_training(folder: Path, steps: int, growth: Growth, monkeypatch: pytest.MonkeyPatch) -> None:
    from pretrain.loop import Training

    step = Training._step

    def noted(self: Training, number: int, views: list[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        if number % (steps // 12) == 0:
            growth.note(number)
        return step(self, number, views, index)

    monkeypatch.setattr(Training, "_step", noted)
    (folder / "tiny.yaml").write_text(TINY)
    train(load_recipe(str(folder / "tiny.yaml"), [f"epochs={steps // 2}"]), folder / "run")
    growth.note(steps)


def repeated(work: Callable[[], object], times: int, growth: Growth) -> None:
    for number in range(times):
        work()
        if number % max(times // 12, 1) == 0:
            growth.note(number)
    growth.note(times)


def search_work() -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(3000, 64, generator=generator), torch.randn(700, 64, generator=generator)
    labels, asked = np.arange(3000) % 10, np.arange(700) % 10
    return lambda: evaluate_knn(bank, labels, queries, asked, k=[20], temperature=0.07, num_classes=10)


def extraction_work(workers: int, folder: Path) -> Callable[[], object]:
    from PIL import Image

    if workers:
        for label in "ab":
            (folder / "train" / label).mkdir(parents=True, exist_ok=True)
            for number in range(8):
                Image.new("RGB", (600, 600), (number, 99, 0)).save(folder / "train" / label / f"{number}.jpg")
        images = open_data(f"folder:{folder}").split("train")
        assert images.pixels is None
    else:
        images = open_data("shapes:train=64,test=8,size=16").split("train")
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    transform = EvalTransform(16, 16, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return lambda: extract_features(network, images, transform, batch_size=8, workers=workers)


@pytest.mark.parametrize("what", ["search", "extraction"])
def test_a_short_one(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None) -> None:
    growth = Growth()
    repeated(search_work() if what == "search" else extraction_work(0, tmp_path), 12, growth)
    check(growth, what, capsys)


@pytest.mark.faults
def test_ten_thousand_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    growth = Growth()
    watched_training(tmp_path, 10_000, growth, monkeypatch)
    check(growth, "steps of a training", capsys)


@pytest.mark.faults
@pytest.mark.parametrize(("what", "times"), [("search", 1500), ("extraction", 1500), ("extraction by processes", 120)])
def test_many_times(what: str, times: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None) -> None:
    growth = Growth()
    work = search_work() if what == "search" else extraction_work(2 if "processes" in what else 0, tmp_path)
    repeated(work, times, growth)
    check(growth, what, capsys)
