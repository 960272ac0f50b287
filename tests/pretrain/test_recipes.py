"""Recipes: bases, overrides, and one sentence for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.methods import METHODS
from pretrain.recipe_files import RECIPES
from pretrain.recipes import as_yaml, load_recipe, resume_recipe, typed
from zoo.errors import UserError


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_recipe_resolves_and_has_a_summary(name: str) -> None:
    recipe = typed(load_recipe(name))
    assert recipe.optimizer.peak_lr(recipe.batch) > 0
    recipe.views.check()
    assert len(RECIPES.summary(name)) > 10


def test_overrides_reach_the_typed_settings() -> None:
    recipe = typed(load_recipe("moco_shapes", ["epochs=3", "method.queue=512", "data=shapes:train=500,size=64", "views.scale=[0.1,0.9]"]))
    assert (recipe.epochs, recipe.method.queue, recipe.data, recipe.views.scale) == (3, 512, "shapes:train=500,size=64", [0.1, 0.9])


def test_resolved_yaml_reads_back_to_the_same_recipe(tmp_path: Path) -> None:
    resolved = load_recipe("moco_shapes", ["seed=5"])
    (tmp_path / "recipe.yaml").write_text(as_yaml(resolved))
    assert load_recipe(str(tmp_path / "recipe.yaml")) == resolved


def test_a_recipe_with_another_method_takes_nothing_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("method: {name: simclr, hidden: 7}\nepochs: 9\noptimizer: {lr: 1.0}\n")
    (tmp_path / "own.yaml").write_text("base: base\nmethod: {name: moco, queue: 64}\n")
    recipe = typed(load_recipe(str(tmp_path / "own.yaml")))
    assert isinstance(recipe.method, METHODS["moco"].Settings)
    assert (recipe.method.queue, recipe.epochs) == (64, 9)
    # The same method keeps what the base says of it.
    (tmp_path / "other.yaml").write_text("base: base\nmethod: {name: simclr, dim: 3}\n")
    method = typed(load_recipe(str(tmp_path / "other.yaml"))).method
    assert (method.hidden, method.dim) == (7, 3)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("epochs=abc", "epochs: Value 'abc'"),
        ("method.que=3", "did you mean 'method.queue'"),
        ("temperature=0.1", "did you mean 'method.temperature'"),
        ("lr=3", "did you mean 'optimizer.lr'"),
        ("method.name=moko", "did you mean 'moco'"),
        ("optimizer=3", "is a group of keys"),
        ("optimizer.name=sdg", "expected one of [sgd, adamw, lars]"),
        ("views.scale=[1,x]", "views.scale[1]"),
        ("batch", "not a key=value override"),
    ],
)
def test_a_mistyped_key_or_value_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("moco_shapes", [override])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["off", "'off'", "global", "patch"])
def test_the_word_off_is_no_false(tmp_path: Path, text: str) -> None:
    """YAML 1.1 reads it as one; a choice of that name is meant."""
    (tmp_path / "own.yaml").write_text(f"base: csml_shapes\nmethod: {{name: csml, level4: {text}}}\n")
    for config in (load_recipe(str(tmp_path / "own.yaml")), load_recipe("csml_shapes", [f"method.level4={text}"])):
        assert typed(config).method.level4 == text.strip("'")
        (tmp_path / "again.yaml").write_text(as_yaml(config))
        assert load_recipe(str(tmp_path / "again.yaml")) == config
    with pytest.raises(UserError, match=r"expected one of \[off, global, patch\]"):
        load_recipe("csml_shapes", ["method.level4=on"])


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'moco_shapes'"):
        load_recipe("moco_shape")


@pytest.mark.parametrize(
    ("text", "sentence"), [("a: [1", "not readable YAML"), ("- 1\n- 2", "must be a mapping"), ("base: me\n", "its own base")]
)
def test_broken_recipe_files(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "me.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_recipe(str(tmp_path / "me.yaml"))


def test_rate_is_given_in_one_form_only() -> None:
    recipe = typed(load_recipe("moco_shapes", ["optimizer.lr=null", "optimizer.lr_per_256=0.03", "batch=64"]))
    assert recipe.optimizer.peak_lr(recipe.batch) == pytest.approx(0.03 / 4)
    recipe.optimizer.lr = 1.0
    with pytest.raises(UserError, match="not both"):
        recipe.optimizer.peak_lr(64)


def test_resume_changes_only_what_no_number_depends_on() -> None:
    own = load_recipe("moco_shapes")
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(own)
    assert isinstance(plain, dict)
    assert resume_recipe(plain, ["workers=1"]).workers == 1  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'epochs' cannot be changed"):
        resume_recipe(plain, ["epochs=3"])  # type: ignore[arg-type]
