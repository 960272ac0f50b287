"""View settings: usable as a typed recipe section, and each value without meaning is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from pretrain.views import ViewSettings, ViewSpec
from zoo.errors import UserError


def test_are_a_structured_recipe_section():
    config = OmegaConf.merge(OmegaConf.structured(ViewSettings), {"size": 32, "blur": 0, "scale": [0.08, 1]})
    settings = OmegaConf.to_object(config)
    assert settings == ViewSettings(size=32, blur=0.0, scale=[0.08, 1.0])
    with pytest.raises(ConfigKeyError):
        OmegaConf.merge(OmegaConf.structured(ViewSettings), {"blurr": 0.5})
    with pytest.raises(ValidationError):
        OmegaConf.merge(OmegaConf.structured(ViewSettings), {"blur": "often"})


def test_defaults_are_valid():
    ViewSettings().check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, r"views.size must be at least 1 pixel, not 0"),
        ({"scale": [0.5, 0.2]}, r"views.scale must be two increasing numbers in \(0, 1\], not \[0.5, 0.2\]"),
        ({"scale": [0.0, 1.0]}, "views.scale"),
        ({"scale": [0.2, 1.1]}, "views.scale"),
        ({"scale": [0.2]}, "views.scale"),
        ({"ratio": [0.0, 1.0]}, "views.ratio must be two increasing positive numbers"),
        ({"ratio": [1.0, float("inf")]}, "views.ratio"),
        ({"blur_sigma": [2.0, 0.1]}, "views.blur_sigma"),
        ({"flip": 1.5}, r"views.flip is a probability and must lie in 0 .. 1, not 1.5"),
        ({"solarize": float("nan")}, "views.solarize"),
        ({"contrast": -0.1}, "views.contrast is a strength and must be 0 or more, not -0.1"),
        ({"hue": 0.6}, "views.hue must lie in 0 .. 0.5"),
        ({"interpolation": "lanczos"}, "views.interpolation must be bilinear or bicubic, not 'lanczos'"),
        ({"backend": "gpu"}, "views.backend must be device or cpu, not 'gpu'"),
    ],
)
def test_values_without_meaning_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        replace(ViewSettings(), **changes).check()


def test_a_views_size_is_the_recipes_unless_it_has_its_own():
    settings = ViewSettings(size=224)
    assert ViewSpec("query").side(settings) == 224
    assert ViewSpec("small", size=96).side(settings) == 96
