"""Every recipe that stands for a published configuration, against ContrastiveCrop's table of them; heads; rates; the laptop's recipes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from evaluation.training.log import read_log
from evaluation.training.optimizers import ParameterGroup, Schedule, make_optimizer
from evaluation.views.samplers import make_sampler
from pretrain.loop import train
from pretrain.methods import METHODS, RunFacts, SimSiam
from pretrain.recipe_files import RECIPES, read_recipe_file
from pretrain.recipes import load_recipe, typed
from pretrain.settings import Recipe
from pretrain.sizes import with_sizes
from zoo.backbones import create_backbone

IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "stl10": 105_000, "tiny-imagenet": 100_000, "imagenet200": 256_000, "imagenet": 1_281_167}
SIDES = {"cifar10": 32, "cifar100": 32, "stl10": 96, "tiny-imagenet": 64, "imagenet200": 224, "imagenet": 224}
SMALL = ("cifar10", "cifar100", "stl10", "tiny-imagenet")


class Row(NamedTuple):
    """One of the 30 configurations; ``crop`` is the published code's word, ``alpha`` None where it plays no part."""

    recipe: str
    method: str
    data: str
    crop: str
    epochs: int
    alpha: float | None


# fmt: off
TABLE = [
    Row("simclr_cifar10",               "simclr",  "cifar10",       "rcrop",    500, None),
    Row("simclr_ccrop_cifar10",         "simclr",  "cifar10",       "ccrop",    500, 0.1),
    Row("simclr_cifar100",              "simclr",  "cifar100",      "rcrop",    500, None),
    Row("simclr_ccrop_cifar100",        "simclr",  "cifar100",      "ccrop",    500, 0.1),
    Row("moco_cifar10",                 "moco",    "cifar10",       "rcrop",    500, None),
    Row("moco_ccrop_cifar10",           "moco",    "cifar10",       "ccrop",    500, 0.1),
    Row("moco_simccrop_cifar10",        "moco",    "cifar10",       "simccrop", 500, 0.1),
    Row("moco_cifar100",                "moco",    "cifar100",      "rcrop",    500, None),
    Row("moco_ccrop_cifar100",          "moco",    "cifar100",      "ccrop",    500, 0.1),
    Row("moco_simccrop_cifar100",       "moco",    "cifar100",      "simccrop", 500, 0.1),
    Row("byol_cifar10",                 "byol",    "cifar10",       "rcrop",    500, None),
    Row("byol_ccrop_cifar10",           "byol",    "cifar10",       "ccrop",    500, 0.1),
    Row("byol_cifar100",                "byol",    "cifar100",      "rcrop",    500, None),
    Row("byol_ccrop_cifar100",          "byol",    "cifar100",      "ccrop",    500, 0.1),
    Row("simsiam_cifar10",              "simsiam", "cifar10",       "rcrop",    500, None),
    Row("simsiam_ccrop_cifar10",        "simsiam", "cifar10",       "ccrop",    500, 0.1),
    Row("simsiam_cifar100",             "simsiam", "cifar100",      "rcrop",    500, None),
    Row("simsiam_ccrop_cifar100",       "simsiam", "cifar100",      "ccrop",    500, 0.1),
    Row("simclr_stl10",                 "simclr",  "stl10",         "rcrop",    500, None),
    Row("simclr_ccrop_stl10",           "simclr",  "stl10",         "ccrop",    500, 0.1),
    Row("simclr_tiny_imagenet",         "simclr",  "tiny-imagenet", "rcrop",    500, None),
    Row("simclr_ccrop_tiny_imagenet",   "simclr",  "tiny-imagenet", "ccrop",    500, 0.1),
    Row("mocov1_imagenet200",           "mocov1",  "imagenet200",   "rcrop",    100, None),
    Row("mocov1_ccrop_imagenet200",     "mocov1",  "imagenet200",   "ccrop",    100, 0.6),
    Row("moco_imagenet200",             "moco",    "imagenet200",   "rcrop",    100, None),
    Row("moco_ccrop_imagenet200",       "moco",    "imagenet200",   "ccrop",    100, 0.6),
    Row("mocov1_imagenet",              "mocov1",  "imagenet",      "rcrop",    100, None),
    Row("mocov1_ccrop_imagenet",        "mocov1",  "imagenet",      "ccrop",    100, 0.6),
    Row("moco_imagenet_100ep",          "moco",    "imagenet",      "rcrop",    100, None),
    Row("moco_ccrop_imagenet",          "moco",    "imagenet",      "ccrop",    100, 0.6),
]
# fmt: on
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "simclr": {"dim": 128, "hidden": None, "head_norm": False, "temperature": 0.5, "base_temperature": 0.07},
    "moco": {"dim": 128, "mlp": True, "queue": 65536, "momentum": 0.999, "temperature": 0.2},
    "mocov1": {"dim": 128, "mlp": False, "queue": 65536, "momentum": 0.999, "temperature": 0.07},
    "byol": {"dim": 128, "hidden": 512, "head_norm": True, "momentum": 0.996, "momentum_final": None, "legacy_target": False},
    "simsiam": {"dim": 512, "predictor_hidden": 128, "head_norm": True, "constant_predictor_lr": True},
}
CROPS = {"rcrop": "random_resized_crop", "ccrop": "contrastive_crop", "simccrop": "simccrop"}
# Those that stand for nothing published say so.
OWN = (
    "photos",
    "byol_shapes",
    "csml_ccrop_cifar10",
    "csml_ccrop_shapes",
    "csml_cifar10",
    "csml_cifar100",
    "csml_prototypes_cifar10",
    "csml_prototypes_shapes",
    "csml_shapes",
    "csml_stl10",
    "csml_tiny_imagenet",
    "csml_tiny_imagenet_hier100",
    "hcsc_ccrop_cifar10",
    "hcsc_ccrop_shapes",
    "hcsc_cifar10",
    "hcsc_cifar100",
    "hcsc_shapes",
    "hcsc_stl10",
    "hcsc_tiny_imagenet",
    "hcsc_tiny_imagenet_hier100",
    "hcsc_vit_shapes",
    "hcsc_vit_small_imagenet",
    "moco_shapes",
    "shapes_demo",
    "simclr_ccrop_shapes",
    "simclr_cifar10_2h",
    "simclr_cifar10_cpu",
    "simsiam_shapes",
)
# HCSC's six configuration files (spec of its code: single and multi-crop): epochs, warm-up, local views.
HCSC = {
    f"hcsc_{kind}imagenet_{epochs}ep": (epochs, warmup, kind == "multicrop_")
    for kind in ("", "multicrop_")
    for epochs, warmup in ((200, 20), (400, 20), (800, 80))
}
# CsMl's release, and what is put together beyond it: epochs, first epochs with the own key alone, refresh, local views.
CSML = {
    "csml_imagenet_200ep": (200, 11, 5, False),
    "csml_multicrop_imagenet_200ep": (200, 11, 5, True),
    "csml_multicrop_imagenet_800ep": (800, 44, 20, True),
}


@cache
def loaded(name: str, data: str) -> Recipe:
    """The recipe as a run on that data set has it."""
    return typed(with_sizes(load_recipe(name), IMAGES[data]))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.recipe)
def test_published_configuration(row: Row) -> None:
    recipe, small = loaded(row.recipe, row.data), row.data in SMALL
    assert (recipe.data, recipe.views.size, recipe.epochs) == (row.data, SIDES[row.data], row.epochs)
    assert recipe.backbone == ("resnet18_small" if small else "resnet50")
    assert vars(recipe.method) == METHOD_SETTINGS[row.method]
    assert type(recipe.method) is METHODS[row.method.removesuffix("v1")].Settings
    assert recipe.zero_init_residual == (row.method == "simsiam")
    assert recipe.sync_bn == (row.method in ("simclr", "byol", "simsiam"))
    assert recipe.bn_splits == (8 if small and row.method == "moco" else 1)
    assert (recipe.batch, recipe.micro_batch) == ((512 if small else 256), None)
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov, optimizer.decay_all) == ("sgd", 0.9, False, True)
    assert (optimizer.lr, optimizer.lr_per_256, optimizer.weight_decay) == ((0.5 if small else 0.03), None, 1e-4)
    assert (schedule.unit, schedule.warmup_epochs) == ("epoch", 0.0)
    if row.method == "mocov1":
        assert (schedule.name, schedule.milestones, schedule.gamma) == ("step", [60, 80], 0.1)
    else:
        assert (schedule.name, schedule.final_lr) == ("cosine", 0.1 if small else 0.0)
    views = recipe.views
    assert views.crop == CROPS[row.crop]
    assert row.alpha is None or views.alpha == row.alpha
    assert (views.scale, views.ratio, views.central_box) == ([0.2, 1.0], [3 / 4, 4 / 3], [0.25, 0.25, 0.75, 0.75])
    assert (views.flip, views.jitter, views.grayscale, views.blur, views.solarize) == (0.5, 0.8, 0.2, 0.0 if small else 0.5, 0.0)
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (views.vertical_flip, views.invert, views.channel_permutation, views.each, views.inclusive) == (0.0, 0.0, 0.0, {}, False)


def test_the_table_has_all_published_configurations() -> None:
    assert len({row.recipe for row in TABLE}) == 30
    rest = set(RECIPES.names()) - {row.recipe for row in TABLE}
    assert rest == {*OWN, *HCSC, *CSML, "moco_imagenet"}  # MoCo's own 200 epochs


@pytest.mark.parametrize("name", HCSC)
def test_hcscs_configurations(name: str) -> None:
    recipe, (epochs, warmup, local) = loaded(name, "imagenet"), HCSC[name]
    assert (recipe.data, recipe.backbone, recipe.views.size, recipe.views.scale) == ("imagenet", "resnet50", 224, [0.2, 1.0])
    assert (recipe.batch, recipe.epochs, recipe.optimizer.name, recipe.optimizer.momentum) == (256, epochs, "sgd", 0.9)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.decay_all) == (0.03, 1e-4, True)
    assert (recipe.schedule.name, recipe.schedule.unit, recipe.schedule.warmup_epochs, recipe.schedule.final_lr) == (
        "cosine",
        "epoch",
        0,
        0,
    )
    assert vars(recipe.method) == {
        **METHOD_SETTINGS["moco"],
        "queue": 16384,
        "levels": [3000, 2000, 1000],
        "warmup_epochs": warmup,
        "start_ami": None,
        "instance_selection": True,
        "prototype_selection": True,
        "prototypes": True,
        "rejected": "zero",
        "last_prototype": False,
        "selection_on_local": True,
        "loss_levels": "sum",
        "local_views": local,
    }
    views = METHODS["hcsc"].views(recipe.method, 224)
    assert [(view.size, view.scale) for view in views[2:]] == (
        [(192, (0.172, 0.86)), (160, (0.143, 0.715)), (128, (0.114, 0.571)), (96, (0.086, 0.429))] if local else []
    )


@pytest.mark.parametrize("name", CSML)
def test_csmls_configurations(name: str) -> None:
    recipe, (epochs, own, refresh, multicrop) = loaded(name, "imagenet"), CSML[name]
    assert (recipe.data, recipe.backbone, recipe.views.size, recipe.views.scale) == ("imagenet", "resnet50", 224, [0.2, 1.0])
    assert (recipe.batch, recipe.epochs, recipe.optimizer.name, recipe.optimizer.momentum) == (256, epochs, "sgd", 0.9)
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.decay_all) == (0.03, 1e-4, True)
    schedule = recipe.schedule
    assert (schedule.name, schedule.unit, schedule.warmup_epochs, schedule.final_lr) == ("cosine", "epoch", 0, 0)
    rest = {key: value for key, value in vars(recipe.method).items() if key not in vars(loaded("hcsc_cifar10", "cifar10").method)}
    assert {key: value for key, value in vars(recipe.method).items() if key in METHOD_SETTINGS["moco"]} == METHOD_SETTINGS["moco"]
    assert rest == {
        "neighbours": True,
        "k": 5,
        "refresh_epochs": refresh,
        "cross_weight": 0.5,
        "cross_epochs": own,
        "mix": True,
        "early_mix": True,
        "level4": "patch" if multicrop else "off",
        "level4_weight": 1.0,
        "window": None,
        "stride": None,
    }
    assert (recipe.method.local_views, recipe.method.prototypes, recipe.method.instance_selection) == (multicrop, False, False)
    views = METHODS["csml"].views(recipe.method, 224)
    assert [view.source for view in views] == ["self", "self", "neighbour", "neighbour", *(["self"] * 4 if multicrop else [])]
    assert [view.size for view in views[4:]] == ([192, 160, 128, 96] if multicrop else [])


def surveys(recipe: Recipe) -> list[int]:
    """The epochs after which boxes are made, counted from 1 as published; none where no crop follows boxes."""
    boxes = recipe.boxes
    if not make_sampler(recipe.views).follows_boxes:
        return []
    assert boxes.warmup_epochs is not None
    assert boxes.every_epochs is not None
    return [epoch for epoch in range(1, recipe.epochs) if epoch >= boxes.warmup_epochs and epoch % boxes.every_epochs == 0]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.recipe)
def test_boxes_are_refreshed_after_the_published_epochs(row: Row) -> None:
    recipe = loaded(row.recipe, row.data)
    if row.crop != "ccrop":
        assert surveys(recipe) == []
        return
    warmup = 100 if row.data in SMALL else 20
    assert (recipe.boxes.warmup_epochs, recipe.boxes.every_epochs) == (warmup, warmup)
    assert (recipe.boxes.threshold, recipe.boxes.quantile, recipe.boxes.initial) == (0.1, None, [0.0, 0.0, 1.0, 1.0])
    assert surveys(recipe) == ([100, 200, 300, 400] if row.data in SMALL else [20, 40, 60, 80])


@pytest.mark.parametrize("row", [row for row in TABLE if row.crop != "rcrop"], ids=lambda row: row.recipe)
def test_a_crop_changes_nothing_but_the_crop(row: Row) -> None:
    """The pair that a paper compares: the recipe's own keys are its base, where crops lie, and nothing else."""
    own = read_recipe_file(RECIPES.folder / f"{row.recipe}.yaml")
    plain = row.recipe.replace(f"_{row.crop}", "")
    base = read_recipe_file(RECIPES.folder / f"{'moco_imagenet_100ep' if plain == 'moco_imagenet' else plain}.yaml")
    assert own.views.pop("crop") == CROPS[row.crop]
    assert own.views.pop("alpha") == row.alpha
    assert own == base


def rates(recipe: Recipe, epochs: list[int], *, constant: bool = False) -> list[float]:
    """Learning rates of epochs counted from 1, at their first and last steps the same."""
    steps = 7
    group = ParameterGroup([nn.Parameter(torch.zeros(1))], constant_lr=constant)
    assert recipe.batch is not None
    optimizer = make_optimizer([group], recipe.optimizer, recipe.optimizer.peak_lr(recipe.batch))
    schedule = Schedule(optimizer, recipe.schedule, epochs=recipe.epochs, steps_per_epoch=steps)
    found = []
    for epoch in epochs:
        schedule.set((epoch - 1) * steps)
        first = optimizer.param_groups[0]["lr"]
        schedule.set(epoch * steps - 1)
        assert optimizer.param_groups[0]["lr"] == first
        found.append(first)
    return found


@pytest.mark.parametrize("name", ["simclr_ccrop_cifar10", "moco_simccrop_cifar100", "byol_ccrop_cifar100", "simsiam_ccrop_cifar10"])
def test_rates_of_the_small_sets(name: str) -> None:
    recipe = loaded(name, "cifar10")
    assert rates(recipe, [1, 100, 500]) == pytest.approx([0.5, 0.457856, 0.050004], abs=5e-7)
    assert rates(recipe, [1, 100, 500], constant=True) == [0.5, 0.5, 0.5]  # SimSiam's predictor


def test_simsiam_trains_the_predictor_at_a_constant_rate() -> None:
    recipe = loaded("simsiam_cifar10", "cifar10")
    method = SimSiam(partial(create_backbone, "test_resnet", image_size=32), recipe.method, RunFacts(50_000, 512, 0, 1))
    optimizer = make_optimizer(method.parameter_groups(), recipe.optimizer, 0.5)
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert sizes[1] == sum(p.numel() for p in method.predictor.parameters())
    schedule = Schedule(optimizer, recipe.schedule, epochs=500, steps_per_epoch=97)
    for epoch, rate in ((1, 0.5), (100, 0.457856), (500, 0.050004)):
        schedule.set((epoch - 1) * 97)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 0.5], abs=5e-7)


def test_rates_of_the_imagenet_family() -> None:
    cosine = loaded("moco_ccrop_imagenet", "imagenet")
    assert rates(cosine, [1, 60]) == pytest.approx([0.03, 0.010815], abs=5e-7)
    assert rates(cosine, [100]) == pytest.approx([7.4e-6], abs=5e-8)
    step = loaded("mocov1_ccrop_imagenet", "imagenet")
    assert rates(step, [1, 60, 61, 80, 81, 100]) == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003, 0.0003])
    legacy = typed(with_sizes(load_recipe("mocov1_imagenet", ["schedule.gamma=0"]), IMAGES["imagenet"]))
    assert rates(legacy, [60, 61, 81]) == [0.03, 0.0, 0.0]


@pytest.mark.parametrize("name", RECIPES.names())
def test_head_names_command_hardware_time_and_published_accuracy(name: str) -> None:
    lines = (RECIPES.folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#").strip() for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]]
    command = next(line for line in head if f"pretrain {name} --out " in line)
    data = load_recipe(name).data
    assert data == "shapes" or command.endswith((f"data={data}:ROOT", "workers=8"))
    text = " ".join(head)
    if name in OWN:
        assert "Not a published setting" in text
        assert "easured" in text
    else:
        assert any(line.startswith("Settings: ") and "arXiv" in line for line in head)
        assert any(line.startswith("Hardware and time: ") for line in head)
        published = next(line for line in head if line.startswith("Published accuracy: "))
        assert "not found" in published or "%" in published or "linear top-1" in published


# Those of HCSC and CsMl: test_recipes_hcsc.py, test_recipes_csml.py.
@pytest.mark.parametrize("name", [name for name in OWN if name.endswith("shapes") and not name.startswith(("hcsc", "csml"))])
def test_the_laptops_recipes_train(tmp_path: Path, name: str) -> None:
    changed = ["data=shapes:train=32,test=16", "batch=16", "epochs=2", "schedule.warmup_epochs=0", "device=cpu", "threads=1", "trackers=[]"]
    config = load_recipe(name, [*changed, "knn.every_epochs=0", *(["method.queue=32"] if name == "moco_shapes" else [])])
    train(config, tmp_path / "run")
    rows = read_log(tmp_path / "run" / "log.jsonl")
    assert len(rows) == 4
    # A regression's best is -4 (BYOL) or -1 (SimSiam); a contrastive loss is above 0.
    low, high = {"byol_shapes": (-4, 4), "simsiam_shapes": (-1, 1)}.get(name, (0, 10))
    assert all(low < row["loss"] < high for row in rows)
    assert ["survey_seconds" in row for row in rows] == [False, False, "ccrop" in name, False]
