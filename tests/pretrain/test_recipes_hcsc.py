"""HCSC's recipes that stand for nothing published: what differs from their base, their numbers by the rule, and the small ones train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe, typed
from pretrain.settings import Recipe
from pretrain.sizes import batch_size, with_sizes
from zoo.models.runs import latest_checkpoint, read_checkpoint


def flat(name: str) -> dict[str, Any]:
    """Every key of a recipe by its full name."""

    def walk(node: Any, path: str) -> dict[str, Any]:
        if not isinstance(node, dict) or not node:
            return {path: node}
        return {key: value for word, inner in node.items() for key, value in walk(inner, f"{path}.{word}".lstrip(".")).items()}

    return walk(OmegaConf.to_container(load_recipe(name)), "")


def sized(name: str, images: int) -> Recipe:
    return typed(with_sizes(load_recipe(name), images))


SHAPES_BOXES = {"views.crop": "contrastive_crop", "views.alpha": 0.6, "boxes.quantile": 0.75}
# Recipe -> what it builds on, and all that differs.
DIFFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "hcsc_cifar100": ("hcsc_cifar10", {"data": "cifar100"}),
    "hcsc_stl10": ("hcsc_cifar10", {"data": "stl10", "views.size": 96}),
    "hcsc_tiny_imagenet": ("hcsc_cifar10", {"data": "tiny-imagenet", "views.size": 64}),
    "hcsc_tiny_imagenet_hier100": (
        "hcsc_tiny_imagenet",
        {"data": "folder", "batch": 128, "optimizer.lr": 0.125},
    ),
    "hcsc_ccrop_cifar10": ("hcsc_cifar10", {"views.crop": "contrastive_crop", "views.alpha": 0.1}),
    "hcsc_ccrop_shapes": ("hcsc_shapes", {**SHAPES_BOXES, "backbone": "resnet10_small"}),
    "hcsc_vit_small_imagenet": (
        "hcsc_imagenet_200ep",
        {
            "backbone": "vit_small_patch16_224",
            "method.warmup_epochs": 30,
            "batch": 1024,
            "micro_batch": 32,
            "epochs": 300,
            "optimizer.name": "adamw",
            "optimizer.lr": None,
            "optimizer.lr_per_256": 1.5e-4,
            "optimizer.weight_decay": 0.1,
            "optimizer.decay_all": False,
            "schedule.unit": "step",
            "schedule.warmup_epochs": 30.0,
            "precision": "bf16",
        },
    ),
    "hcsc_vit_shapes": (
        "hcsc_shapes",
        {
            "backbone": "vit_small_patch8_224",
            "bn_splits": 1,
            "micro_batch": 16,
            "optimizer.name": "adamw",
            "optimizer.lr": None,
            "optimizer.lr_per_256": 1e-3,
            "optimizer.weight_decay": 0.05,
            "optimizer.decay_all": False,
            "schedule.warmup_epochs": 4.0,
        },
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_recipe_is_its_base_and_the_differences(name: str) -> None:
    base, changed = DIFFERENCES[name]
    own = flat(name)
    texts = {key: getattr(own[key], "value", own[key]) for key in changed}
    assert texts == changed
    assert {key: value for key, value in own.items() if key not in changed} == {
        key: value for key, value in flat(base).items() if key not in changed
    }


@pytest.mark.parametrize(
    ("name", "images", "batch", "levels", "queue", "rate"),
    [
        ("hcsc_cifar10", 50_000, 512, [594, 396, 198], 12_288, 0.5),
        ("hcsc_ccrop_cifar10", 50_000, 512, [594, 396, 198], 12_288, 0.5),
        ("hcsc_cifar100", 50_000, 512, [594, 396, 198], 12_288, 0.5),
        ("hcsc_stl10", 105_000, 512, [858, 572, 286], 26_112, 0.5),
        ("hcsc_tiny_imagenet", 100_000, 512, [837, 558, 279], 24_576, 0.5),
        ("hcsc_tiny_imagenet_hier100", 10_000, 128, [264, 176, 88], 2_432, 0.125),
    ],
)
def test_numbers_by_the_rule(name: str, images: int, batch: int, levels: list[int], queue: int, rate: float) -> None:
    recipe = sized(name, images)
    assert recipe.batch == batch == batch_size(images, recipe.views.size)
    assert (recipe.method.levels, recipe.method.queue, recipe.method.warmup_epochs) == (levels, queue, 50)
    assert recipe.optimizer.peak_lr(batch) == rate
    assert queue % batch == 0 == batch % recipe.bn_splits


def test_the_transformer_on_imagenet_takes_whole_passes_on_eight_gpus() -> None:
    recipe = sized("hcsc_vit_small_imagenet", 1_281_167)
    assert recipe.method.queue == 16_384
    assert recipe.method.levels == [3000, 2000, 1000]
    assert (1024 // 8) % 32 == 0 == 16_384 % 1024
    assert recipe.optimizer.peak_lr(1024) == pytest.approx(6e-4)


@pytest.mark.parametrize("name", ["hcsc_shapes", "hcsc_ccrop_shapes", "hcsc_vit_shapes"])
def test_the_small_ones_train(tmp_path: Path, name: str) -> None:
    words = ["data=shapes:train=32,test=16", "batch=16", "epochs=2", "schedule.warmup_epochs=0", "device=cpu", "threads=1", "trackers=[]"]
    words += ["knn.every_epochs=0", "method.queue=32"]
    if name == "hcsc_vit_shapes":
        words += ["micro_batch=8"]
    train(load_recipe(name, words), tmp_path / "run")
    rows = read_log(tmp_path / "run" / "log.jsonl")
    assert len(rows) == 4
    assert all(0 < row["loss"] < 40 for row in rows)
    assert ["loss/prototype" in row for row in rows] == [False, False, True, True]
    assert ["prototypes/2/dropped" in row for row in rows] == [False, False, True, False]
    assert ["boxes/area" in row for row in rows] == [False, False, "ccrop" in name, False]
    tables = read_checkpoint(latest_checkpoint(tmp_path / "run"))["tables"]
    assert [tuple(tables[f"prototypes.centroids.{level}"].shape) for level in range(3)] == [(15, 128), (10, 128), (5, 128)]
    assert all(np.isfinite(table.numpy()).all() for table in tables.values())
    assert ("boxes" in tables) == ("ccrop" in name)
    if "ccrop" in name:
        # By the quantile a box is a part of the image.
        boxes = tables["boxes"]
        assert (boxes[:, 2:] - boxes[:, :2]).prod(1).mean() < 0.9
