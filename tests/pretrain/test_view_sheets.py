"""``pretrain views``: the sheet shows what the network gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.views import ViewSource, ViewSpec
from pretrain.cli import app
from pretrain.pictures.views import views_of_recipe
from pretrain.recipes import load_recipe, typed
from zoo.data import open_data
from zoo.errors import UserError

DATA = "data=shapes:train=40,test=8"


def test_views_are_those_of_the_source_in_the_images_order() -> None:
    config = load_recipe("moco_shapes", [DATA, "seed=3"])
    sheet = views_of_recipe(config, "moco_shapes", 5)
    assert sheet.headings[:3] == ["query\nepoch 1", "key\nepoch 1", "query\nepoch 2"]
    data = open_data("shapes:train=40,test=8")
    chosen = data.role("pretrain").subset(np.array([0, 10, 20, 29, 39]))
    assert [np.array_equal(np.asarray(sheet.images.read(i)), np.asarray(chosen.read(i))) for i in range(5)] == [True] * 5
    source = ViewSource(
        chosen,
        [ViewSpec("query"), ViewSpec("key")],
        typed(config).views,
        mean=data.mean,
        std=data.std,
        seed=3,
        batch=5,
        device="cpu",
        workers=0,
    )
    (batch,) = source.batches(1, 0)
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    for place, index in enumerate(batch.index.tolist()):
        wanted = (batch.views[0][place] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(sheet.views[2][index], wanted)


def test_boxes_are_the_true_ones_where_they_are_known() -> None:
    plain, boxed = (
        views_of_recipe(load_recipe("simclr_ccrop_shapes", [DATA, f"views.crop={crop}"]), "x", 4)
        for crop in ("random_resized_crop", "contrastive_crop")
    )
    assert "in the true boxes" in boxed.title
    assert "random_resized_crop" in plain.title
    assert not np.array_equal(plain.views[0], boxed.views[0])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["views", "shapes_demo", DATA, "--count", "3", "--out", str(tmp_path / "views.png")], standalone_mode=False)
    assert "views of 32 px, random_resized_crop" in capsys.readouterr().out
    with Image.open(tmp_path / "views.png") as picture:
        assert picture.width > picture.height
    with pytest.raises(UserError, match="name a recipe: pretrain views RECIPE"):
        app(["views"], standalone_mode=False)
    with pytest.raises(UserError, match="did you mean 'shapes_demo'"):
        app(["views", "shape_demo"], standalone_mode=False)
