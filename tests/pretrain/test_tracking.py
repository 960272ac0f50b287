"""What trackers get: rows by hand, grids pixel by pixel, and a run whose TensorBoard has it all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.runs.tracking import box_grid, cluster_grid, tracked, view_grid
from zoo.data import ArrayImages


def test_a_row_by_hand() -> None:
    row = {"step": 7, "loss": 2.0, "seconds": 0.5, "knn_top1": 0.25, "boxes/full": 0.5, "prototypes/0/purity_class": 0.7, "rankme": 9.0}
    assert tracked(row, 32) == {
        "loss": 2.0,
        "seconds": 0.5,
        "knn_top1_percent": 25.0,
        "boxes/full_percent": 50.0,
        "prototypes/0/purity_class_percent": pytest.approx(70.0),
        "rankme": 9.0,
        "images_per_second": 64.0,
    }


def test_views_are_shown_in_colours_side_by_side() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    colours = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    local = torch.full((2, 3, 4, 4), 0.25)
    normalised = [(view - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None] for view in (colours, local)]
    grid = view_grid(normalised, mean, std)
    # Cells of 8 pixels with two between and around them: a row for each image.
    assert grid.shape == (3, 2 * 8 + 6, 2 * 8 + 6)
    assert (grid[:, 2:10, 2:10].float() / 255 - colours[0]).abs().max() < 0.003
    assert (grid[:, 12:20, 2:10].float() / 255 - colours[1]).abs().max() < 0.003
    assert (grid[:, 2:10, 12:20] == 64).all()


def grey(count: int) -> ArrayImages:
    return ArrayImages("grey", "train", np.stack([np.full((64, 64, 3), 10 * number, np.uint8) for number in range(count)]), {})


def test_boxes_are_drawn_where_they_are() -> None:
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 0.75]], np.float32)
    grid = box_grid(grey(2), boxes).permute(1, 2, 0).numpy()
    second = grid[2:66, 68:132]
    yellow = (second == (255, 210, 31)).all(axis=2)
    rows, columns = np.nonzero(yellow)
    # Quarters of 63 steps: 16 and 32 down, 32 and 47 to the right.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 32, 32, 47)
    assert (second[~yellow] == 10).all()
    assert yellow[16, 32:48].all()
    assert not yellow[20, 40]


def test_a_row_for_each_of_the_largest_clusters() -> None:
    grid = cluster_grid(grey(5), np.array([2, 0, 2, 2, 0])).numpy()
    values = [[int(grid[0, 2 + 66 * row + 5, 2 + 66 * column + 5]) for column in range(4)] for row in range(2)]
    assert values == [[0, 20, 30, 0], [10, 40, 0, 0]]


def test_a_runs_tensorboard(tmp_path: Path) -> None:
    settings = [
        "data=shapes:train=96,test=24", "backbone=resnet10_small", "batch=32", "views.size=16", "epochs=2", "threads=1", "bn_splits=2",
        "method.queue=64", "method.levels=[12,6,3]", "method.warmup_epochs=1", "boxes.warmup_epochs=1", "boxes.every_epochs=1",
        "device=cpu", "trackers=[tensorboard]", "knn.every_epochs=1", "knn.train_images=48", "knn.test_images=24",
    ]  # fmt: skip
    train(load_recipe("hcsc_ccrop_shapes", settings), tmp_path / "run")
    events = EventAccumulator(str(next((tmp_path / "run" / "tensorboard").rglob("events.out.tfevents.*")).parent))
    events.Reload()
    rows = read_log(tmp_path / "run" / "log.jsonl")
    tags = events.Tags()
    assert {"views", "boxes", "prototypes"} <= set(tags["images"])
    checks = [100 * row["knn_top1"] for row in rows if "knn_top1" in row]
    assert [event.value for event in events.Scalars("knn_top1_percent")] == pytest.approx(checks, rel=1e-6)
    speed = [32 / row["seconds"] for row in rows]
    assert [event.value for event in events.Scalars("images_per_second")] == pytest.approx(speed, rel=1e-5)
    with Image.open(io.BytesIO(events.Images("views")[0].encoded_image_string)) as picture:
        # Two views of eight images of 16 pixels.
        assert picture.size == (2 * 18 + 2, 8 * 18 + 2)
