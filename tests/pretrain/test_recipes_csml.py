"""CsMl's recipes that stand for nothing published: what differs from their base, their numbers by the rule, and the small ones train."""

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
from pretrain.sizes import batch_size, match_stride, match_window, with_sizes
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
    "csml_cifar100": ("csml_cifar10", {"data": "cifar100"}),
    "csml_stl10": ("csml_cifar10", {"data": "stl10", "views.size": 96}),
    "csml_tiny_imagenet": ("csml_cifar10", {"data": "tiny-imagenet", "views.size": 64}),
    "csml_tiny_imagenet_hier100": ("csml_tiny_imagenet", {"data": "folder", "batch": 128, "optimizer.lr": 0.125}),
    "csml_ccrop_cifar10": ("csml_cifar10", {"views.crop": "contrastive_crop", "views.alpha": 0.1}),
    "csml_prototypes_cifar10": ("csml_cifar10", {"method.prototypes": True}),
    "csml_ccrop_shapes": ("csml_shapes", {**SHAPES_BOXES, "backbone": "resnet10_small"}),
    "csml_prototypes_shapes": ("csml_shapes", {"method.prototypes": True}),
    "csml_multicrop_imagenet_200ep": ("csml_imagenet_200ep", {"method.level4": "patch", "method.local_views": True}),
    "csml_multicrop_imagenet_800ep": (
        "csml_multicrop_imagenet_200ep",
        {"method.cross_epochs": 44, "method.refresh_epochs": 20, "epochs": 800},
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


@pytest.mark.parametrize("name", ["csml_cifar10", "csml_shapes"])
def test_beside_its_method_a_recipe_is_that_of_moco(name: str) -> None:
    """As HCSC's are, so that all three can be compared."""
    others = {key: value for key, value in flat(name.replace("csml", "hcsc")).items() if not key.startswith("method.")}
    assert {key: value for key, value in flat(name).items() if not key.startswith("method.")} == others


@pytest.mark.parametrize(
    ("name", "images", "batch", "queue", "cells", "window", "stride"),
    [
        ("csml_cifar10", 50_000, 512, 12_288, 8, 5, 1),
        ("csml_ccrop_cifar10", 50_000, 512, 12_288, 8, 5, 1),
        ("csml_prototypes_cifar10", 50_000, 512, 12_288, 8, 5, 1),
        ("csml_cifar100", 50_000, 512, 12_288, 8, 5, 1),
        ("csml_stl10", 105_000, 512, 26_112, 24, 14, 5),
        ("csml_tiny_imagenet", 100_000, 512, 24_576, 16, 9, 3),
        ("csml_tiny_imagenet_hier100", 10_000, 128, 2_432, 16, 9, 3),
    ],
)
def test_numbers_by_the_rule(name: str, images: int, batch: int, queue: int, cells: int, window: int, stride: int) -> None:
    recipe = sized(name, images)
    assert recipe.batch == batch == batch_size(images, recipe.views.size)
    assert (recipe.method.queue, recipe.method.cross_epochs, recipe.method.refresh_epochs) == (queue, 28, 12)
    assert (recipe.method.level4, recipe.method.early_mix, recipe.method.k, recipe.method.temperature) == ("global", False, 5, 0.2)
    assert queue % batch == 0 == batch % recipe.bn_splits
    # What method.level4=patch would take.
    assert -(-recipe.views.size // 4) == cells
    assert (match_window(cells), match_stride(cells, window)) == (window, stride)


@pytest.mark.parametrize("name", ["csml_shapes", "csml_ccrop_shapes", "csml_prototypes_shapes"])
def test_the_small_ones_train(tmp_path: Path, name: str) -> None:
    words = ["data=shapes:train=32,test=16", "batch=16", "epochs=2", "schedule.warmup_epochs=0", "device=cpu", "threads=1", "trackers=[]"]
    train(load_recipe(name, [*words, "knn.every_epochs=0", "method.queue=32"]), tmp_path / "run")
    rows = read_log(tmp_path / "run" / "log.jsonl")
    assert len(rows) == 4
    assert all(0 < row["loss"] < 40 for row in rows)
    assert all({"loss/contrastive", "loss/neighbour", "loss/mixed", "loss/level4"} <= row.keys() for row in rows)
    assert ["loss/prototype" in row for row in rows] == [False, False, *(["prototypes" in name] * 2)]
    assert ["neighbours/purity_class" in row for row in rows] == [True, False, True, False]
    assert ["boxes/area" in row for row in rows] == [False, False, "ccrop" in name, False]
    tables = read_checkpoint(latest_checkpoint(tmp_path / "run"))["tables"]
    assert tuple(tables["neighbours"].shape) == (32, 5)
    assert ("boxes" in tables, "prototypes.centroids.0" in tables) == ("ccrop" in name, "prototypes" in name)
    assert all(np.isfinite(table.numpy()).all() for table in tables.values())
