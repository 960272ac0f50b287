"""The rule for numbers that depend on the data's size, and that a recipe's own numbers go before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.recipes import load_recipe
from pretrain.sizes import batch_size, prototype_levels, prototype_warmup, queue_length, survey_interval, with_sizes


@pytest.mark.parametrize(
    ("images", "view", "batch"),
    [
        (50_000, 32, 512),  # CIFAR
        (105_000, 96, 512),  # STL-10
        (100_000, 64, 512),  # Tiny-ImageNet
        (1_281_167, 224, 256),  # ImageNet
        (1_281_167, 97, 256),
        (25_600, 32, 512),  # 512 x 50
        (25_599, 32, 256),
        (1_000, 224, 16),  # 20 images in each of 50 steps
        (100, 32, 2),
        (49, 32, 1),
        (1, 32, 1),
    ],
)
def test_batch(images: int, view: int, batch: int) -> None:
    assert batch_size(images, view) == batch


@pytest.mark.parametrize(
    ("images", "batch", "queue"),
    [
        (1_281_167, 256, 65_536),
        (262_144, 256, 65_536),
        (50_000, 512, 12_288),  # 24 batches: 12,500 is a quarter
        (1_000, 16, 240),  # 15 batches: 250 is a quarter
        (40, 16, 16),  # never less than a batch
        (1_281_167, 300, 65_400),  # a batch that does not divide 65,536
    ],
)
def test_queue(images: int, batch: int, queue: int) -> None:
    assert queue_length(images, batch) == queue
    assert queue % batch == 0


@pytest.mark.parametrize(("epochs", "interval"), [(500, 100), (100, 20), (24, 5), (200, 40), (7, 1), (2, 1), (1, 1)])
def test_survey_interval(epochs: int, interval: int) -> None:
    assert survey_interval(epochs) == interval


@pytest.mark.parametrize(
    ("images", "levels"),
    [
        (1_281_167, [3000, 2000, 1000]),  # as published
        (100_000, [837, 558, 279]),
        (50_000, [594, 396, 198]),
        (12_811, [300, 200, 100]),
        (40, [18, 12, 6]),
        (6, [6, 4, 2]),  # a single cluster on the coarsest level would reject every negative
    ],
)
def test_prototype_levels(images: int, levels: list[int]) -> None:
    assert prototype_levels(images) == levels


def test_there_are_never_more_clusters_than_images() -> None:
    assert all(prototype_levels(images)[0] <= images for images in range(6, 2000))


@pytest.mark.parametrize(("epochs", "warmup"), [(200, 20), (800, 80), (12, 1), (1, 1)])
def test_prototype_warmup(epochs: int, warmup: int) -> None:
    assert prototype_warmup(epochs) == warmup


def own_recipe(tmp_path: Path, text: str = "") -> str:
    path = tmp_path / "own.yaml"
    path.write_text(
        f"data: folder:photos\nmethod: {{name: moco}}\noptimizer: {{lr_per_256: 0.03}}\nepochs: 50\nviews: {{size: 64}}\n{text}"
    )
    return str(path)


def test_a_recipe_for_ones_own_data_leaves_its_numbers_to_the_rule(tmp_path: Path) -> None:
    config = load_recipe(own_recipe(tmp_path))
    assert (config.batch, config.method.queue, config.boxes.warmup_epochs, config.boxes.every_epochs) == (None,) * 4
    sized = with_sizes(config, 3_000)
    assert (sized.batch, sized.method.queue, sized.boxes.warmup_epochs, sized.boxes.every_epochs) == (32, 736, 10, 10)
    # The recipe itself is as it was, and another data set gives other numbers.
    assert config.batch is None
    assert (with_sizes(config, 300_000).batch, with_sizes(config, 300_000).method.queue) == (512, 65_536)


def test_given_numbers_stay_and_the_rule_fits_the_rest_to_them(tmp_path: Path) -> None:
    text = "batch: 100\nboxes: {warmup_epochs: 3}\n"
    sized = with_sizes(load_recipe(own_recipe(tmp_path, text)), 3_000)
    assert (sized.batch, sized.method.queue, sized.boxes.warmup_epochs, sized.boxes.every_epochs) == (100, 700, 3, 10)
    queue = with_sizes(load_recipe(own_recipe(tmp_path), ["method.queue=64"]), 3_000).method.queue
    assert queue == 64


def test_a_method_without_a_queue_gets_none(tmp_path: Path) -> None:
    sized = with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: byol}"]), 3_000)
    assert "queue" not in sized.method
    assert sized.batch == 32


def test_a_method_with_prototypes_gets_levels_and_a_warmup(tmp_path: Path) -> None:
    sized = with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: hcsc}"]), 12_811)
    assert (sized.method.levels, sized.method.warmup_epochs) == ([300, 200, 100], 5)
    own = with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: hcsc, levels: [7, 3], warmup_epochs: 0}"]), 12_811)
    assert (own.method.levels, own.method.warmup_epochs) == ([7, 3], 0)


def test_csml_gets_its_epochs_by_the_rule(tmp_path: Path) -> None:
    sized = with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: csml}", "epochs=200"]), 12_811)
    assert (sized.method.refresh_epochs, sized.method.cross_epochs) == (5, 11)
    own = with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: csml, refresh_epochs: 3, cross_epochs: 0}"]), 12_811)
    assert (own.method.refresh_epochs, own.method.cross_epochs) == (3, 0)
    assert "refresh_epochs" not in with_sizes(load_recipe(own_recipe(tmp_path), ["method={name: hcsc}"]), 12_811).method
