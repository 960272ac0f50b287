"""Checkpoints to choose from: kept while a run goes on, evaluated together, drawn by step; and the same numbers in the run's log."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import zoo.commands.cli
from evaluation.commands.cli import app
from evaluation.extraction.features import extract_features
from evaluation.statistics.quality import spectrum
from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.runs.check import COLLAPSED, Check
from zoo.data import open_data
from zoo.model_spec import open_model
from zoo.models.transforms import EvalTransform
from zoo.results import load_result

SETTINGS = [
    "data=shapes:train=64,test=24", "backbone=resnet10_small", "batch=16", "views.size=16", "views.blur=0", "device=cpu", "trackers=[]",
    "threads=1", "bn_splits=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality") / "run"
    settings = [*SETTINGS, "epochs=5", "knn.every_epochs=1", "checkpoint.keep=1", "checkpoint.keep_every=2", "checkpoint.every_epochs=5"]
    train(load_recipe("simclr_cifar10_cpu", settings), folder)
    return folder


def test_every_second_epoch_is_kept_and_the_newest(run: Path) -> None:
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step_00000008.pt", "step_00000016.pt", "step_00000020.pt"]


def test_the_log_has_the_numbers_of_the_features(run: Path) -> None:
    row = read_log(run / "log.jsonl")[-1]
    data = open_data("shapes:train=64,test=24")
    images = data.role("test")
    side = data.image_size
    transform = EvalTransform(side, side, "bicubic", mean=data.mean, std=data.std) if side == 16 else None
    assert row["knn_top1"] >= 0
    if transform is not None:
        found = spectrum(extract_features(open_model(run).module, images, transform).features)
        assert row["rankme"] == pytest.approx(found.rankme, rel=1e-4)
    assert 1 <= row["rankme"] <= 24
    assert 0 < row["spread"] <= 1


def test_checkpoints_are_evaluated_together_and_drawn(run: Path, tmp_path: Path) -> None:
    words = ["--task", "knn", "--task", "quality", "--view-count", "2", "--data", "shapes:train=64,test=24", "--no-cache", "--k", "3"]
    words += ["--model", str(run / "checkpoints"), "--out", str(tmp_path / "results")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results = [load_result(path) for path in sorted((tmp_path / "results").rglob("*.json"))]
    steps = {os.path.basename(result.model.spec or "") for result in results}
    assert (len(results), steps) == (6, {"step_00000008.pt", "step_00000016.pt", "step_00000020.pt"})
    words = ["report", str(tmp_path / "results"), "--out", str(tmp_path / "page"), "--numbers-only"]
    done = CliRunner().invoke(zoo.commands.cli.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page" / "index.html").read_text()
    drawn = re.findall(r"[^<>]*by checkpoint(?=<)", text)
    assert any("k = 3" in title or "k3" in title for title in drawn), drawn
    assert any("rankme" in title.lower() for title in drawn), drawn
    assert "RankMe during training" in text


def test_a_run_without_labels_has_the_numbers_too(tmp_path: Path) -> None:
    for number in range(20):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path)
    settings = [*SETTINGS[1:], f"data=folder:{tmp_path / 'photos'}", "epochs=1", "knn.every_epochs=1", "workers=0"]
    train(load_recipe("simclr_cifar10_cpu", settings), tmp_path / "run")
    row = read_log(tmp_path / "run" / "log.jsonl")[-1]
    assert "knn_top1" not in row
    assert 1 <= row["rankme"] <= 20


def test_a_collapse_is_a_warning() -> None:
    data = open_data("shapes:train=64,test=24")
    check = Check.make(load_recipe("simclr_cifar10_cpu", SETTINGS), data, data.role("pretrain"))  # type: ignore[arg-type]

    class Constant(torch.nn.Module):
        num_features = 8

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(images), 8) + 1e-4 * images.mean((1, 2, 3))[:, None] * torch.arange(8)

    numbers = check(Constant(), torch.device("cpu"))
    assert numbers["spread"] < COLLAPSED
    lines = check.lines(numbers)
    assert lines[-1].startswith("warning: the features have collapsed")
    assert len(check.lines({**numbers, "spread": 0.5})) == 1
