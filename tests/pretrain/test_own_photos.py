"""Pre-training on images of one's own: the rule, the warning, the images that a run knows again, and how few are too few."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from pretrain.loop import train
from pretrain.methods import METHODS
from pretrain.pictures.boxes import boxes_of_run
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.sizes import FIT_KEYS, Seen, backbone_for, fit_to_images, fitted_batch, fitted_epochs, fitted_splits, view_size
from zoo.errors import UserError
from zoo.models.runs import latest_checkpoint, read_checkpoint, read_recipe

QUICK = ["trackers=[]", "workers=0", "device=cpu", "log_every=1"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        small = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((70, 50 + number % 3)).save(folder / f"{number:02}.bmp")
    return folder


def begin(photos, run, *overrides: str):
    return train(load_recipe("photos", [f"data=folder:{photos}", "epochs=1", *QUICK, *overrides]), run)


def go_on(run):
    return train(resume_recipe(read_recipe(run), []), run, resume=True)


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(("side", "view"), [(20, 32), (63, 32), (64, 64), (100, 96), (223, 192), (224, 224), (3000, 224)])
def test_view_size(side, view):
    assert view_size(side) == view


@pytest.mark.parametrize(
    ("images", "view", "name"),
    [(100, 32, "resnet18_small"), (10**6, 64, "resnet18_small"), (19_999, 96, "resnet18"), (20_000, 224, "resnet50")],
)
def test_backbone(images, view, name):
    assert backbone_for(images, view) == name


@pytest.mark.parametrize(
    ("images", "view", "batch"), [(50_000, 32, 512), (1000, 224, 32), (3200, 224, 64), (40, 32, 32), (20, 32, 16), (1, 32, 1)]
)
def test_batch(images, view, batch):
    assert fitted_batch(images, view) == batch


@pytest.mark.parametrize(("images", "batch", "epochs"), [(1000, 32, 650), (10_000, 128, 260), (10**6, 256, 100), (40, 32, 800)])
def test_epochs_make_twenty_thousand_steps_within_the_published_span(images, batch, epochs):
    assert fitted_epochs(images, batch) == epochs


@pytest.mark.parametrize(("share", "splits"), [(512, 8), (64, 8), (32, 4), (16, 2), (8, 1), (7, 1)])
def test_groups_of_batch_norm_hold_eight_images(share, splits):
    assert fitted_splits(share) == splits


def test_the_recipe_follows_the_images():
    config = fit_to_images(load_recipe("photos"), Seen(3_000, 480))
    assert (config.views.size, config.backbone, config.batch, config.epochs) == (224, "resnet18", 32, 220)
    assert (config.optimizer.lr_per_256, config.bn_splits, config.views.blur) == (0.03, 4, 0.5)
    small = fit_to_images(load_recipe("photos"), Seen(60_000, 32))
    assert (small.views.size, small.backbone, small.batch, small.epochs) == (32, "resnet18_small", 512, 170)
    assert (small.optimizer.lr_per_256, small.bn_splits, small.views.blur) == (0.25, 8, 0.0)
    assert config.fit == small.fit == []


def test_what_is_set_is_taken_as_it_is(tmp_path):
    config = load_recipe("photos", ["epochs=7", "views.size=48"])
    assert set(config.fit) == set(FIT_KEYS) - {"epochs", "views.size"}
    fitted = fit_to_images(config, Seen(3_000, 480))
    assert (fitted.epochs, fitted.views.size, fitted.backbone) == (7, 48, "resnet18_small")
    own = tmp_path / "own.yaml"
    own.write_text("base: photos\nbackbone: resnet34\n")
    assert fit_to_images(load_recipe(str(own)), Seen(3_000, 480)).backbone == "resnet34"


def test_a_start_brings_its_network_and_its_size():
    fitted = fit_to_images(load_recipe("photos"), Seen(3_000, 480, start="resnet50", start_side=128))
    assert (fitted.backbone, fitted.views.size) == ("resnet50", 128)


def test_the_batch_norm_groups_are_those_of_a_process():
    assert fit_to_images(load_recipe("photos"), Seen(3_000, 480, processes=4)).bn_splits == 1


def test_fit_names_what_there_is_a_rule_for(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("base: photos\nfit: [batch, seed]\n")
    with pytest.raises(UserError, match="fit names 'seed'"):
        load_recipe(str(own))


# ---------------------------------------------------------------- the command


def test_photos_are_trained_on_and_the_rule_is_said(photos, tmp_path, capfd):
    run = tmp_path / "run"
    assert begin(photos, run).stopped is None
    said = " ".join(capfd.readouterr().err.split())
    assert "by the rule for 40 images" in said
    assert "views.size=32, backbone=resnet18_small, batch=32" in said
    assert "40 images are too few" in said
    assert f"data=folder:{photos} init=resnet50.hcsc_200ep" in said
    recipe = OmegaConf.load(run / "recipe.yaml")
    assert (recipe.views.size, recipe.batch, recipe.method.queue, recipe.fit) == (32, 32, 32, [])


def test_from_given_weights_there_is_no_warning(photos, tmp_path, capfd):
    begin(photos, tmp_path / "first")
    capfd.readouterr()
    begin(photos, tmp_path / "second", f"init={tmp_path / 'first'}")
    said = capfd.readouterr().err
    assert "too few" not in said
    assert OmegaConf.load(tmp_path / "second" / "recipe.yaml").backbone == "resnet18_small"


# ---------------------------------------------------------------- a run knows its images


def test_a_resumed_run_names_the_image_that_was_exchanged(photos, tmp_path):
    run = tmp_path / "run"
    begin(photos, run)
    path = photos / "03.bmp"
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    other = Image.open(photos / "06.bmp")  # of the same size in pixels and bytes
    other.save(path)
    assert path.stat().st_size == len(before)
    with pytest.raises(UserError, match=r"1 image has other content: '03.bmp'"):
        go_on(run)
    with pytest.raises(UserError, match=r"'03.bmp'"):
        boxes_of_run_with_tables(run)
    path.write_bytes(before)
    os.utime(path, ns=(time + 5, time + 5))
    assert go_on(run).step == 1


def boxes_of_run_with_tables(run):
    """Boxes of a survey, made up and put into the checkpoint: they belong to the images they were found on."""
    path = latest_checkpoint(run)
    state = torch.load(path, weights_only=True)
    state["tables"] = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(40, 1)}
    torch.save(state, path)
    return boxes_of_run(run, 4)


def test_an_image_more_and_an_image_less_are_named(photos, tmp_path):
    run = tmp_path / "run"
    begin(photos, run)
    os.rename(photos / "07.bmp", photos / "zz.bmp")
    with pytest.raises(UserError, match=r"1 is gone: '07.bmp'; 1 is new: 'zz.bmp'"):
        go_on(run)


def test_without_its_list_a_run_still_tells_other_images(photos, tmp_path):
    run = tmp_path / "run"
    begin(photos, run)
    (run / "images.npz").unlink()
    assert go_on(run).step == 1
    Image.open(photos / "06.bmp").save(photos / "03.bmp")
    (run / "images.npz").unlink()
    with pytest.raises(UserError, match="are not those that"):
        go_on(run)


def test_an_older_run_goes_on_and_says_so(photos, tmp_path, capfd):
    run = tmp_path / "run"
    begin(photos, run)
    path = latest_checkpoint(run)
    state = read_checkpoint(path)
    del state["data_identity"]
    torch.save(state, path)
    (run / "images.npz").unlink()
    capfd.readouterr()
    assert go_on(run).step == 1
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("did not record which images it trains on") == 1


# ---------------------------------------------------------------- too few images


@pytest.mark.parametrize("name", sorted(METHODS))
def test_one_image_per_forward_pass_is_refused_before_anything_is_written(photos, tmp_path, name):
    run = tmp_path / "run"
    with pytest.raises(UserError, match=rf"{name} needs at least 2 images per forward pass"):
        begin(photos, run, f"method={{name: {name}}}", "batch=4", "micro_batch=1")
    assert not run.exists()


def test_without_batch_norm_moco_takes_one_image_and_simclr_does_not(photos, tmp_path):
    network = ["backbone=vit_tiny_patch16_224", "views.size=32", "batch=2", "micro_batch=1", "max_images=2"]
    assert begin(photos, tmp_path / "moco", "method.queue=2", *network).step == 1
    with pytest.raises(UserError, match="an image is compared with the others of its forward pass"):
        begin(photos, tmp_path / "simclr", "method={name: simclr}", *network)
