"""Values of recipes outside their ranges: one sentence, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.cli import app
from pretrain.methods import METHODS
from pretrain.recipes import load_recipe
from pretrain.settings import Recipe
from zoo.errors import UserError
from zoo.ranges import declared_ranges

BEYOND = [
    ("checkpoint.keep=-1", "checkpoint.keep must be at least 1, not -1"),
    ("checkpoint.every_epochs=0", "checkpoint.every_epochs must be at least 1, not 0"),
    ("epochs=0", "epochs must be at least 1, not 0"),
    ("epochs=-3", "epochs must be at least 1, not -3"),
    ("optimizer.lr=-1", "optimizer.lr must be at least 0, not -1.0"),
    ("optimizer.lr=nan", "optimizer.lr must be at least 0, not nan"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must be at least 0, not -1.0"),
    ("optimizer.momentum=1.5", "optimizer.momentum must be at least 0 and below 1, not 1.5"),
    ("schedule.warmup_epochs=-1", "schedule.warmup_epochs must be at least 0, not -1.0"),
    ("method.temperature=-1", "method.temperature must be above 0, not -1.0"),
    ("method.dim=0", "method.dim must be at least 1, not 0"),
    ("max_images=-5", "max_images must be at least 1, not -5"),
    ("workers=-1", "workers must be at least 0 and at most 1024, not -1"),
    ("seed=-1", "seed must be at least 0 and at most 9223372036854775807, not -1"),
    (f"seed={2**70}", "seed must be at least 0"),
    ("views.size=100000", "views.size must be at least 1 and at most 8192, not 100000"),
    ("views.flip=2", "views.flip must be at least 0 and at most 1, not 2.0"),
    ("boxes.threshold=1", "boxes.threshold must be at least 0 and below 1, not 1.0"),
    ("micro_batch=some", "micro_batch is a number of images or auto, not 'some'"),
    ("max_time=soon", "max_time 'soon' is not a duration"),
    ("backbone=[resnet18,resnet50]", "[resnet18,resnet50]"),
]


@pytest.mark.parametrize(("override", "message"), BEYOND)
def test_a_value_out_of_range_is_one_sentence_and_leaves_nothing(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        app(["moco_shapes", "--out", str(tmp_path / "run"), override], standalone_mode=False)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["method.window", "method.stride"])
def test_patches_of_csml_have_ranges_too(key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{key} must be at least 1, not 0"):
        app(["csml_shapes", "--out", str(tmp_path / "run"), f"{key}=0"], standalone_mode=False)
    assert not (tmp_path / "run").exists()


def test_every_number_of_a_recipe_has_a_range() -> None:
    """Whoever adds a number says which it may be."""
    from dataclasses import fields, is_dataclass
    from typing import Any, get_type_hints

    def numbers(settings: type[Any], prefix: str = "") -> list[str]:
        hints = get_type_hints(settings)
        found = []
        for item in fields(settings):
            if is_dataclass(hints[item.name]):
                found += numbers(hints[item.name], f"{prefix}{item.name}.")  # type: ignore[arg-type]
            elif "int" in (words := str(hints[item.name]).replace("float", "int")) or words == "<class 'int'>":
                found.append(prefix + item.name)
        return found

    for settings in (Recipe, *(method.Settings for method in METHODS.values())):
        assert sorted(numbers(settings)) == sorted(key for key, _ in declared_ranges(settings))


def test_the_ends_of_a_range_are_taken() -> None:
    config = load_recipe("moco_shapes", ["epochs=1", "checkpoint.keep=1", f"seed={2**63 - 1}", "views.size=8192", "workers=0"])
    assert (config.epochs, config.checkpoint.keep, config.seed, config.views.size, config.workers) == (1, 1, 2**63 - 1, 8192, 0)
