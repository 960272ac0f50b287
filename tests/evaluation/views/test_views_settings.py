"""View settings: usable as a typed recipe section, and each value without meaning is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from evaluation.views import ViewSettings, ViewSpec
from evaluation.views.settings import local_views
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
        ({"size": 0}, r"views.size must be at least 1 and at most 8192, not 0"),
        ({"scale": [0.5, 0.2]}, r"views.scale must be two increasing numbers, not \[0.5, 0.2\]"),
        ({"scale": [0.0, 1.0]}, "views.scale"),
        ({"scale": [0.2, 1.1]}, "views.scale"),
        ({"scale": [0.2]}, "views.scale"),
        ({"ratio": [0.0, 1.0]}, "views.ratio must be above 0, not 0.0"),
        ({"ratio": [1.0, float("inf")]}, "views.ratio"),
        ({"blur_sigma": [2.0, 0.1]}, "views.blur_sigma"),
        ({"flip": 1.5}, r"views.flip must be at least 0 and at most 1, not 1.5"),
        ({"solarize": float("nan")}, "views.solarize"),
        ({"contrast": -0.1}, "views.contrast must be at least 0, not -0.1"),
        ({"hue": 0.6}, "views.hue must be at least 0 and at most 0.5, not 0.6"),
        ({"interpolation": "lanczos"}, "views.interpolation must be bilinear or bicubic, not 'lanczos'"),
        ({"alpha": 0.0}, "views.alpha must be above 0, not 0.0"),
        ({"central_box": [0.7, 0.2, 0.3, 0.8]}, r"views.central_box must be \[top, left, bottom, right\] in shares of the image"),
        ({"backend": "gpu"}, "views.backend must be device or cpu, not 'gpu'"),
    ],
)
def test_values_without_meaning_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        replace(ViewSettings(), **changes).check()


def test_a_view_has_the_recipes_settings_but_for_its_own():
    settings = ViewSettings(size=224, crop="contrastive_crop", each={"second": {"blur": 0.1, "solarize": 0.2}})
    assert ViewSpec("first").resolve(settings) == replace(settings, each={})
    assert ViewSpec("second").resolve(settings) == replace(settings, each={}, blur=0.1, solarize=0.2)
    small = ViewSpec("small", crop="random_resized_crop", size=96, scale=(0.05, 0.14)).resolve(settings)
    assert small == replace(settings, each={}, crop="random_resized_crop", size=96, scale=[0.05, 0.14])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blurr": 0.1}, r"views.each.second has an unknown key 'blurr'; did you mean 'blur'\?"),
        ({"backend": "cpu"}, "views.each.second has an unknown key 'backend'"),
        ({"blur": "yes"}, "views.each.second.blur must be of the kind of 0.5, not 'yes'"),
        ({"blur": 3.0}, "views.each.second.blur must be at least 0 and at most 1, not 3.0"),
        (0.1, r"views.each.second is a group of keys .* not the single value '0.1'"),
    ],
)
def test_what_is_said_of_one_view_is_checked(changes, message):
    with pytest.raises(UserError, match=message):
        ViewSpec("second").resolve(ViewSettings(each={"second": changes}))


def test_local_views_are_the_published_ones_at_224_and_in_proportion_elsewhere():
    views = local_views(224)
    assert [view.size for view in views] == [192, 160, 128, 96]
    assert [view.scale for view in views] == [(0.172, 0.86), (0.143, 0.715), (0.114, 0.571), (0.086, 0.429)]
    assert [view.size for view in local_views(32)] == [27, 23, 18, 14]
    assert {view.crop for view in local_views(32)} == {"random_resized_crop"}
